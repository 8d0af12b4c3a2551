"""Operations on a patient: the summary of the record, and who may be the same person."""

from typing import Any

import pytest

from medical.records.validation import validate
from tests.clinic import Clinic
from tests.records.conftest import Fhir, pulse, refusal
from tests.records.samples import Json, synthea


def condition(patient: str, name: str, status: str = "active", **more: Any) -> Json:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": status}
    made: Json = {"resourceType": "Condition", "subject": {"reference": patient}, "code": {"text": name}}
    return made | {"clinicalStatus": {"coding": [coding]}} | more


def vital(patient: str, when: str, **more: Any) -> Json:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    category = [{"coding": [{"system": system, "code": "vital-signs"}]}]
    return pulse(patient, category=category, effectiveDateTime=when, **more)


def sections(document: Json) -> dict[str, list[str]]:
    """What each part of a summary refers to."""
    composition = document["entry"][0]["resource"]
    return {one["title"]: [entry["reference"] for entry in one.get("entry", [])] for one in composition["section"]}


class TestSummary:
    def test_has_what_is_so_now_and_the_latest_of_each(self, fhir: Fhir, patient: str) -> None:
        asthma, flu = fhir.made(condition(patient, "asthma <severe>")), fhir.made(condition(patient, "flu", "resolved"))
        fhir.made(vital(patient, "2024-01-01"))
        latest = fhir.made(vital(patient, "2025-01-01"))
        fhir.made(vital(patient, "2026-01-01", status="entered-in-error"))
        document = fhir.bundle(f"{patient}/$summary")
        told = sections(document)
        assert told["Problems"] == [f"Condition/{asthma['id']}"]
        assert told["Past problems"] == [f"Condition/{flu['id']}"]
        assert told["Vital signs"] == [f"Observation/{latest['id']}"]
        assert told["Medications"] == told["Allergies and intolerances"] == []
        assert {one["resource"]["resourceType"] for one in document["entry"]} == {
            "Composition",
            "Patient",
            "Condition",
            "Observation",
        }
        assert "asthma &lt;severe&gt;" in document["entry"][0]["resource"]["section"][0]["text"]["div"]

    def test_of_a_synthetic_patient_is_valid(self, fhir: Fhir) -> None:
        fhir.post("", synthea())
        [own] = fhir.ids("Patient")
        document = fhir.bundle(f"Patient/{own}/$summary")
        assert not validate(document)
        assert {"Problems", "Medications", "Immunizations", "Vital signs"} <= set(sections(document))
        names = {f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in document["entry"]}
        assert {one for some in sections(document).values() for one in some} <= names

    def test_shows_what_one_may_see(self, clinic: Clinic, fhir: Fhir) -> None:
        own, caller = clinic.patient_with_account()
        fhir.made(condition(f"Patient/{own['id']}", "asthma"))
        assert sections(Fhir(caller).bundle(f"Patient/{own['id']}/$summary"))["Problems"]
        other = clinic.patient()["id"]
        assert refusal(Fhir(caller).get(f"Patient/{other}/$summary")) == (404, "not_found")


KNOWN = {
    "given_name": "Åsa",
    "family_name": "Müller",
    "birth_date": "1980-05-17",
    "sex": "female",
    "phone": "+49 30 901820",
    "email": "asa@example.org",
}


def asked(**more: Any) -> Json:
    """Parameters of `$match` for somebody."""
    person: Json = {"resourceType": "Patient", "name": [{"family": "Muller", "given": ["Asa"]}]} | more
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": person}]}


class TestMatch:
    @pytest.mark.parametrize(
        ("more", "grade", "reasons"),
        [
            (
                {"identifier": [{"system": "urn:x", "value": "7"}], "name": [{"family": "Other"}]},
                "certain",
                "identifier",
            ),
            ({"birthDate": "1980-05-17"}, "probable", "name, birth_date"),
            (
                {"birthDate": "1980-05-17", "gender": "female", "telecom": [{"system": "phone", "value": "030901820"}]},
                "probable",
                "name, birth_date, sex",
            ),
            ({"telecom": [{"system": "email", "value": "ASA@example.org"}]}, "possible", "name, email"),
            ({"birthDate": "1981-05-17"}, None, None),
            ({"name": [{"family": "Nguyen"}], "birthDate": "1980-05-17"}, None, None),
        ],
    )
    def test_says_how_likely_and_why(
        self, clinic: Clinic, fhir: Fhir, more: Json, grade: str | None, reasons: str | None
    ) -> None:
        known = clinic.patient(**KNOWN, identifiers=[{"system": "urn:x", "value": "7"}])
        found = fhir.post("Patient/$match", asked(**more)).get_json().get("entry", [])
        assert [one["resource"]["id"] for one in found] == [known["id"]] * bool(grade)
        for one in found:
            said = {each["url"].rpartition("/")[2].rpartition(":")[2]: each for each in one["search"]["extension"]}
            assert said["match-grade"]["valueCode"] == grade
            assert said["match-reasons"]["valueString"] == reasons
            assert 0 < one["search"]["score"] <= 1

    def test_only_certain_ones_and_so_many(self, clinic: Clinic, fhir: Fhir) -> None:
        clinic.patient(**KNOWN, identifiers=[{"system": "urn:x", "value": "7"}])
        clinic.patient(**KNOWN | {"given_name": "Asa"}, confirm_new=True)
        both = asked(birthDate="1980-05-17", identifier=[{"system": "urn:x", "value": "7"}])
        assert fhir.post("Patient/$match", both).get_json()["total"] == 2
        for extra in ({"name": "onlyCertainMatches", "valueBoolean": True}, {"name": "count", "valueInteger": 1}):
            fewer = both | {"parameter": [*both["parameter"], extra]}
            assert fhir.post("Patient/$match", fewer).get_json()["total"] == 1

    def test_only_those_one_may_see(self, clinic: Clinic, fhir: Fhir) -> None:
        known, doctor = clinic.patient(**KNOWN), clinic.clinician()
        question = asked(birthDate="1980-05-17")
        assert Fhir(doctor).post("Patient/$match", question).get_json()["total"] == 0
        clinic.relate(known, doctor)
        assert Fhir(doctor).post("Patient/$match", question).get_json()["total"] == 1

    def test_what_cannot_be_asked(self, fhir: Fhir) -> None:
        assert refusal(fhir.post("Patient/$match", {"resourceType": "Parameters"})) == (400, "unreadable_resource")
        assert fhir.post("Patient/$match", asked(gender="no such")).status_code == 422


class TestDuplicates:
    def test_are_listed_with_score_and_reasons(self, clinic: Clinic) -> None:
        known = clinic.patient(**KNOWN)
        like = clinic.patient(**KNOWN | {"given_name": "Asa", "email": None}, confirm_new=True)
        clinic.patient()
        [one] = clinic.admin.get(f"/patients/{known['id']}/duplicates").get_json()["items"]
        assert one["patient"]["id"] == like["id"]
        assert one["reasons"] == ["name", "birth_date", "sex", "phone"]
        assert one["score"] == pytest.approx(0.9)
