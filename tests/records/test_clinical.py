"""What clinicians do with records in calls of their own: vital signs, notes, lists, warnings, the timeline."""

from typing import Any

import pytest

from medical.identity.permissions import Role
from medical.records.validation import validate
from tests.clinic import Caller, Clinic
from tests.records.conftest import Fhir, pulse
from tests.records.samples import Json
from tests.records.test_operations import condition


class Ward:
    """A doctor who cares for a patient, and a program that reads what was kept."""

    def __init__(self, clinic: Clinic, **patient: Any) -> None:
        self.clinic, self.doctor = clinic, clinic.clinician()
        self.patient = clinic.patient(**patient)
        clinic.relate(self.patient, self.doctor)
        self.path, self.name = f"/patients/{self.patient['id']}", f"Patient/{self.patient['id']}"
        self.fhir = Fhir(clinic.program())

    def post(self, path: str, body: Any = None, by: Caller | None = None, status: int = 201) -> Json:
        answer = (by or self.doctor).post(f"{self.path}/{path}", body)
        assert answer.status_code == status, answer.text
        told: Json = answer.get_json()
        return told

    def get(self, path: str) -> Json:
        answer = self.doctor.get(f"{self.path}/{path}")
        assert answer.status_code == 200, answer.text
        told: Json = answer.get_json()
        return told


@pytest.fixture
def ward(clinic: Clinic) -> Ward:
    return Ward(clinic)


def readings(**values: Any) -> Json:
    """Vital signs by kind; a pair is a value and its unit."""
    pairs = {kind: value if isinstance(value, tuple) else (value, None) for kind, value in values.items()}
    return {"readings": [{"kind": kind, "value": value, "unit": unit} for kind, (value, unit) in pairs.items()]}


class TestVitals:
    def test_are_kept_as_observations_of_the_profile(self, ward: Ward) -> None:
        body = readings(heart_rate=72, systolic=150, diastolic=80) | {"taken_at": "2026-05-01T09:30:00+02:00"}
        told = {one["kind"]: one for one in ward.post("vitals", body)["items"]}
        assert told["systolic"]["observation_id"] == told["diastolic"]["observation_id"]
        assert (told["systolic"]["interpretation"], told["heart_rate"]["interpretation"]) == ("high", "normal")
        found = ward.fhir.bundle(f"Observation?patient={ward.patient['id']}&category=vital-signs&date=2026-05-01")
        kept = [one["resource"] for one in found["entry"]]
        assert len(kept) == 2
        assert not [problem for one in kept for problem in validate(one)]
        pressure = ward.fhir.ids("Observation?component-code-value-quantity=http://loinc.org|8480-6$150")
        assert pressure == [told["systolic"]["observation_id"]]

    @pytest.mark.parametrize(
        ("kind", "given", "kept"),
        [
            ("body_temperature", (98.6, "[degF]"), (37.0, "Cel")),
            ("body_weight", (150, "[lb_av]"), (68.04, "kg")),
            ("body_weight", (3450, "g"), (3.45, "kg")),
            ("body_height", (1.8, "m"), (180.0, "cm")),
            ("body_height", (70, "[in_i]"), (177.8, "cm")),
        ],
    )
    def test_are_kept_in_one_unit(
        self, ward: Ward, kind: str, given: tuple[float, str], kept: tuple[float, str]
    ) -> None:
        [one] = ward.post("vitals", readings(**{kind: given}))["items"]
        assert (one["value"], one["unit"]) == kept

    def test_height_and_weight_tell_the_mass_index(self, ward: Ward) -> None:
        told = ward.post("vitals", readings(body_height=180, body_weight=81))["items"]
        assert [(one["kind"], one["value"], one["unit"]) for one in told][-1] == ("body_mass_index", 25.0, "kg/m2")

    def test_of_a_child_nothing_is_judged_by_the_ranges_of_grown_ups(self, clinic: Clinic) -> None:
        child = Ward(clinic, birth_date="2024-01-01")
        body = readings(heart_rate=120) | {"taken_at": "2026-05-01T09:30:00Z"}
        assert child.post("vitals", body)["items"][0]["interpretation"] is None

    def test_everything_wrong_is_told_and_nothing_kept(self, ward: Ward) -> None:
        wrong = readings(heart_rate=1000, body_weight=(80, "stone"), systolic=120)
        wrong["readings"].append({"kind": "heart_rate", "value": 70})
        told = ward.post("vitals", wrong, status=422)["errors"]
        assert {one["pointer"] for one in told} == {
            "/readings/0/value",
            "/readings/1/unit",
            "/readings/3/kind",
            "/readings",
        }
        assert ward.fhir.ids("Observation") == []

    def test_only_by_who_cares(self, clinic: Clinic, ward: Ward) -> None:
        ward.post("vitals", readings(heart_rate=70), by=clinic.clinician(), status=404)
        ward.post("vitals", readings(heart_rate=70), by=clinic.user(Role.RECEPTIONIST), status=403)


class TestNotes:
    def test_is_drafted_signed_and_amended(self, ward: Ward) -> None:
        made = ward.post("notes", {"title": "Visit", "text": "Cough for three days. ✓"})
        assert (made["status"], made["author_id"]) == ("draft", ward.doctor.id)
        ward.post(f"notes/{made['id']}/amend", {"text": "x", "reason": "y"}, status=409)
        signed = ward.post(f"notes/{made['id']}/sign", status=200)
        assert (signed["status"], signed["version"]) == ("signed", 2)
        ward.post(f"notes/{made['id']}/sign", status=409)
        amended = ward.post(f"notes/{made['id']}/amend", {"text": "Cough for four days.", "reason": "misheard"})
        assert (amended["status"], amended["replaces_id"], amended["title"]) == ("amended", made["id"], "Visit")
        before = ward.get(f"notes/{made['id']}")
        assert (before["status"], before["text"]) == ("superseded", "Cough for three days. ✓")
        ward.post(f"notes/{made['id']}/amend", {"text": "x", "reason": "y"}, status=409)
        kept = [one["resource"] for one in ward.fhir.bundle("DocumentReference")["entry"]]
        assert not [problem for one in kept for problem in validate(one)]
        assert ward.fhir.ids(f"DocumentReference?relatesto=DocumentReference/{made['id']}") == [amended["id"]]

    def test_is_signed_by_its_author_and_in_the_version_that_was_read(self, clinic: Clinic, ward: Ward) -> None:
        made = ward.post("notes", {"title": "Visit", "text": "Cough."})
        colleague = clinic.clinician()
        clinic.relate(ward.patient, colleague)
        assert ward.post(f"notes/{made['id']}/sign", by=colleague, status=409)["code"] == "not_your_note"
        path = f"{ward.path}/notes/{made['id']}/sign"
        assert ward.doctor.call("POST", path, headers={"If-Match": '"7"'}).status_code == 412
        assert ward.doctor.call("POST", path, headers={"If-Match": '"1"'}).status_code == 200

    def test_of_another_patient_is_not_there(self, clinic: Clinic, ward: Ward) -> None:
        other = Ward(clinic)
        clinic.relate(other.patient, ward.doctor)
        made = other.post("notes", {"title": "Visit", "text": "Cough."})
        assert ward.doctor.get(f"{ward.path}/notes/{made['id']}").status_code == 404
        assert ward.doctor.get(f"{ward.path}/notes/{made['id'][:-4]}0000").status_code == 404


class TestLists:
    def test_have_what_is_so_now(self, ward: Ward) -> None:
        asthma = ward.fhir.made(condition(ward.name, "asthma", onsetDateTime="2020-03"))
        ward.fhir.made(condition(ward.name, "flu", "resolved"))
        shot = {"resourceType": "Immunization", "status": "completed", "vaccineCode": {"text": "tetanus"}}
        shot |= {"patient": {"reference": ward.name}, "occurrenceDateTime": "2024-05-01"}
        given = ward.fhir.made(shot)
        ward.fhir.made(shot | {"status": "not-done"})
        [problem] = ward.get("problems")["items"]
        assert problem == {
            "type": "Condition",
            "id": asthma["id"],
            "name": "asthma",
            "status": "active",
            "since": "2020-03",
        }
        assert [one["id"] for one in ward.get("immunizations")["items"]] == [given["id"]]
        assert ward.get("medications")["items"] == ward.get("allergies")["items"] == []

    def test_are_reconciled_and_what_speaks_against_what_is_told(self, ward: Ward) -> None:
        body = {
            "medications": [{"name": "Amoxicillin 500 mg oral tablet"}, {"name": "Ibuprofen 400 mg"}],
            "allergies": [{"name": "Allergy to amoxicillin"}, {"system": "urn:x", "code": "7", "name": "Latex"}],
        }
        told = ward.post("reconciliation", body, status=200)
        assert {one["name"] for one in told["medications"]} == {one["name"] for one in body["medications"]}
        [warning] = told["warnings"]
        names = {one["id"]: one["name"] for one in [*told["medications"], *told["allergies"]]}
        assert names[warning["medication_id"]].startswith("Amoxicillin")
        assert warning["substance"] == "amoxicillin"
        off = {"medications": [{"id": warning["medication_id"], "active": False}]}
        after = ward.post("reconciliation", off, status=200)
        assert ([one["name"] for one in after["medications"]], after["warnings"]) == (["Ibuprofen 400 mg"], [])
        assert len(after["allergies"]) == 2
        kept = ward.fhir.bundle("MedicationStatement")["entry"] + ward.fhir.bundle("AllergyIntolerance")["entry"]
        assert not [problem for one in kept for problem in validate(one["resource"])]

    def test_a_code_in_common_speaks_against_it(self, ward: Ward) -> None:
        coded = {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "723", "name": "penicillin type"}
        body = {"medications": [coded | {"name": "Clamoxyl"}], "allergies": [coded]}
        assert len(ward.post("reconciliation", body, status=200)["warnings"]) == 1

    def test_what_is_on_no_list_is_told_and_nothing_is_done(self, ward: Ward) -> None:
        body = {"medications": [{"name": "Ibuprofen"}, {"id": "none", "active": False}], "allergies": [{}]}
        assert ward.post("reconciliation", body, status=422)["errors"][0]["pointer"] == "/allergies/0/name"
        del body["allergies"]
        assert ward.post("reconciliation", body, status=422)["errors"][0]["pointer"] == "/medications/1/id"
        assert ward.get("medications")["items"] == []


class TestTimeline:
    def test_newest_first_a_page_at_a_time(self, ward: Ward) -> None:
        for year in (2021, 2023, 2022):
            ward.fhir.made(pulse(ward.name, effectiveDateTime=f"{year}-05-01"))
        ward.fhir.made(condition(ward.name, "asthma", onsetDateTime="2020-03"))
        ward.fhir.made(condition(ward.name, "of no known time"))
        ward.fhir.made(pulse(f"Patient/{ward.clinic.patient()['id']}", effectiveDateTime="2024"))
        told = ward.get("timeline")["items"]
        assert [one["at"][:7] for one in told] == ["2023-05", "2022-05", "2021-05", "2020-03"]
        assert (told[-1]["type"], told[-1]["name"]) == ("Condition", "asthma")
        found, cursor = [], None
        while True:
            page = ward.doctor.get(f"{ward.path}/timeline", limit=1, cursor=cursor).get_json()
            found += page["items"]
            if not (cursor := page["next"]):
                break
        assert found == told
        span = ward.doctor.get(f"{ward.path}/timeline", from_="2021-01-01T00:00:00Z", to="2023-01-01T00:00:00Z")
        assert [one["at"][:4] for one in span.get_json()["items"]] == ["2022", "2021"]

    def test_of_what_one_may_see(self, clinic: Clinic, ward: Ward) -> None:
        stranger = clinic.clinician()
        assert stranger.get(f"{ward.path}/timeline").status_code == 404
