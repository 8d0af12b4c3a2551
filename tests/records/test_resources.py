"""Resources one by one: nothing is lost, every version is kept, and no write is lost to another."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.people.models import Patient
from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, day_after
from tests.records.conftest import BASE, FHIR, Fhir, issues, pulse, refusal
from tests.records.samples import Json, examples, parsed, without_server_elements

ELSEWHERE = ("Appointment", "Schedule", "Slot")


class TestRoundTrip:
    def test_every_official_example_comes_back_as_it_was(self, fhir: Fhir) -> None:
        for sent in examples():
            if sent["resourceType"] in (*ELSEWHERE, "Patient"):
                continue  # of patients, tests/records/test_patients.py
            kept = fhir.made(sent)
            assert without_server_elements(kept) == without_server_elements(sent)
            read = parsed(fhir.get(f"{sent['resourceType']}/{kept['id']}").text)
            assert read == kept

    @pytest.mark.parametrize(
        "number", ["1.50", "0.0", "1E+2", "-0.00000000000000000001", "123456789012345678901234567890.10"]
    )
    def test_decimals_stay_as_they_were_written(self, fhir: Fhir, number: str) -> None:
        body = b'{"resourceType":"Observation","status":"final","code":{"text":"a"},"valueQuantity":{"value":%s}}'
        kept = fhir.post("Observation", body % number.encode())
        read = parsed(fhir.get(f"Observation/{kept.get_json()['id']}").text)["valueQuantity"]["value"]
        assert read == parsed(number)
        assert str(read) == str(parsed(number)) or "E" in number

    def test_the_servers_own_elements(self, fhir: Fhir) -> None:
        answer = fhir.post("Observation", pulse(None, id="mine", meta={"versionId": "9", "tag": [{"code": "a"}]}))
        kept = answer.get_json()
        assert kept["id"] != "mine"
        assert kept["meta"].keys() == {"versionId", "lastUpdated", "tag"}
        assert answer.headers["Location"] == f"{BASE}Observation/{kept['id']}/_history/1"
        assert answer.headers["ETag"] == 'W/"1"'
        assert answer.headers["Last-Modified"].endswith("GMT")
        assert answer.content_type == FHIR


class TestVersions:
    def test_each_is_kept(self, fhir: Fhir) -> None:
        first = fhir.made(pulse(None))
        answer = fhir.put(first | {"status": "amended"}, If_Match='W/"1"')
        assert (answer.status_code, answer.headers["ETag"]) == (200, 'W/"2"')
        path = f"Observation/{first['id']}"
        assert parsed(fhir.get(f"{path}/_history/1").text) == first
        assert fhir.get(f"{path}/_history/2").get_json()["status"] == "amended"
        assert fhir.get(f"{path}/_history/3").status_code == 404
        history = fhir.get(f"{path}/_history").get_json()
        assert [one["resource"]["meta"]["versionId"] for one in history["entry"]] == ["2", "1"]
        assert [one["request"]["method"] for one in history["entry"]] == ["PUT", "POST"]

    def test_a_stale_one_is_not_overwritten(self, fhir: Fhir) -> None:
        first = fhir.made(pulse(None))
        assert fhir.put(first | {"status": "amended"}).status_code == 200
        assert refusal(fhir.put(first | {"status": "cancelled"}, If_Match='W/"1"')) == (412, "stale")
        assert fhir.get(f"Observation/{first['id']}").get_json()["status"] == "amended"

    def test_deleted_it_is_gone_and_its_versions_are_not(self, fhir: Fhir) -> None:
        first = fhir.made(pulse(None))
        path = f"Observation/{first['id']}"
        assert fhir.call("DELETE", path).status_code == 204
        assert fhir.call("DELETE", path).status_code == 204
        assert refusal(fhir.get(path)) == (410, "gone")
        assert fhir.ids("Observation") == []
        assert parsed(fhir.get(f"{path}/_history/1").text) == first
        assert refusal(fhir.get(f"{path}/_history/2")) == (410, "gone")
        assert [one["request"]["method"] for one in fhir.get(f"{path}/_history").get_json()["entry"]] == [
            "DELETE",
            "POST",
        ]
        assert fhir.put(first).get_json()["meta"]["versionId"] == "3"
        assert fhir.ids("Observation") == [first["id"]]

    def test_under_an_id_of_the_clients(self, fhir: Fhir) -> None:
        answer = fhir.put(pulse(None, id="pulse.1"))
        assert answer.status_code == 201
        assert fhir.get("Observation/pulse.1").get_json()["meta"]["versionId"] == "1"

    def test_who_has_it_already_is_told_so(self, fhir: Fhir) -> None:
        path = f"Observation/{fhir.made(pulse(None))['id']}"
        for etag in ('W/"1"', '"1"', "1"):
            assert fhir.get(path, If_None_Match=etag).status_code == 304
        assert fhir.get(path, If_None_Match='W/"2"').status_code == 200

    def test_ten_updates_of_one_version_make_one(self, fhir: Fhir) -> None:
        first = fhir.made(pulse(None))
        answers = at_once(10, lambda n: fhir.put(first | {"note": [{"text": f"{n}"}]}, If_Match='W/"1"'))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 9}

    def test_eight_first_writes_under_one_id_make_one(self, fhir: Fhir) -> None:
        answers = at_once(8, lambda _: fhir.put(pulse(None, id="one")))
        assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 7}
        assert fhir.get("Observation/one").get_json()["meta"]["versionId"] == "8"


def at_once(count: int, act: Any) -> list[TestResponse]:
    """The answers when so many act at one moment."""
    barrier = Barrier(count)

    def run(number: int) -> TestResponse:
        barrier.wait()
        answer: TestResponse = act(number)
        return answer

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


class TestAnswers:
    def test_as_much_as_is_preferred(self, fhir: Fhir) -> None:
        assert fhir.post("Observation", pulse(None), Prefer="return=minimal").text == ""
        said = fhir.post("Observation", pulse(None), Prefer="return=OperationOutcome")
        assert issues(said)[0]["severity"] == "information"
        assert fhir.made(pulse(None), Prefer="return=representation")["status"] == "final"

    def test_everything_wrong_is_told(self, fhir: Fhir) -> None:
        answer = fhir.post("Observation", {"resourceType": "Observation", "foo": 1})
        assert answer.status_code == 422
        assert [(one["code"], one["expression"]) for one in issues(answer)] == [
            ("structure", ["Observation"]),
            ("required", ["Observation.status"]),
            ("required", ["Observation.code"]),
        ]

    def test_is_told_without_keeping_anything(self, fhir: Fhir) -> None:
        wrong = {"resourceType": "Observation"}
        answer = fhir.post("Observation/$validate", wrong)
        assert (answer.status_code, len(issues(answer))) == (200, 2)
        carried = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": pulse(None)}]}
        assert issues(fhir.post("Observation/$validate", carried))[0]["severity"] == "information"
        assert fhir.ids("Observation") == []

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            ("Observation", b"{", (400, "malformed_json")),
            ("Observation", b"[]", (400, "unreadable_resource")),
            ("Observation", b'{"resourceType":"Device"}', (400, "unreadable_resource")),
            (
                "Observation",
                b'{"resourceType":"Observation","status":"final","status":"final"}',
                (400, "malformed_json"),
            ),
            ("Observation", rb'{"resourceType":"Observation","id":"\u0000"}', (400, "malformed_json")),
            ("Observation", rb'{"resourceType":"Observation","id":"\ud800"}', (400, "malformed_json")),
            ("Observation", b'{"resourceType":"Observation","a":NaN}', (400, "malformed_json")),
            ("Observation", b'{"a":' * 10_000 + b"1" + b"}" * 10_000, (400, "malformed_json")),
            ("Observation", b" " * (16 * 1024 * 1024 + 1), (413, "too_large")),
            ("Observation/$validate", b'{"resourceType":"Parameters","parameter":5}', (400, "unreadable_resource")),
            ("Observation/$validate", b'{"resourceType":"Parameters","parameter":["a"]}', (400, "unreadable_resource")),
            ("", b'{"resourceType":"Bundle","type":"batch","entry":{}}', (400, "unreadable_resource")),
            ("Nothing", b"{}", (404, "not_found")),
            ("Slot", b'{"resourceType":"Slot"}', (405, "not_here")),
        ],
    )
    def test_what_cannot_be_read(self, fhir: Fhir, path: str, body: bytes, expected: tuple[int, str]) -> None:
        assert refusal(fhir.post(path, body)) == expected

    def test_in_other_formats_it_is_not_read(self, fhir: Fhir) -> None:
        answer = fhir.post("Observation", b"<Observation/>", Content_Type="application/fhir+xml")
        assert refusal(answer) == (415, "unsupported_media_type")

    @pytest.mark.parametrize("meta", ["x", None, {}, []])
    def test_wrong_meta_is_not_mended_silently(self, fhir: Fhir, meta: Any) -> None:
        answer = fhir.post("Observation", pulse(None, meta=meta))
        assert (answer.status_code, issues(answer)[0]["expression"]) == (422, ["Observation.meta"])

    @pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999", "9999-12-31"])
    def test_the_ends_of_the_calendar(self, fhir: Fhir, moment: str) -> None:
        kept = fhir.made(pulse(None, effectiveDateTime=moment))
        assert fhir.get(f"Observation/{kept['id']}").get_json()["effectiveDateTime"] == moment

    def test_values_longer_than_an_index_takes(self, fhir: Fhir) -> None:
        long = "x" * 10_000
        kept = fhir.made(
            pulse(None, identifier=[{"system": long, "value": long}], subject={"reference": f"Device/{long[:64]}"})
        )
        assert fhir.ids(f"Observation?identifier={long}") == [kept["id"]]
        fhir.made({"resourceType": "Organization", "name": long, "alias": [long]})
        assert len(fhir.ids(f"Organization?name:exact={long}")) == 1

    def test_what_is_asked_for_in_other_formats(self, fhir: Fhir) -> None:
        assert refusal(fhir.get("Observation?_format=xml")) == (406, "not_acceptable")
        assert refusal(fhir.get("metadata", Accept="application/fhir+xml")) == (406, "not_acceptable")
        assert fhir.get("Observation?_format=json").status_code == 200

    def test_another_id_than_in_the_path(self, fhir: Fhir) -> None:
        assert refusal(fhir.call("PUT", "Observation/a", pulse(None, id="b"))) == (400, "unreadable_resource")

    @pytest.mark.parametrize("path", ["Observation/1", "", "Observation/1/2/3"])
    def test_a_stranger_gets_an_outcome_too(self, clinic: Clinic, path: str) -> None:
        answer = Fhir(Caller(clinic.app)).get(path)
        assert answer.status_code in (401, 404, 405)
        assert issues(answer)


class TestMetadata:
    def test_is_open_and_valid(self, clinic: Clinic, fhir: Fhir) -> None:
        statement = Fhir(Caller(clinic.app)).get("metadata").get_json()
        assert statement["fhirVersion"] == "4.0.1"
        said = issues(fhir.post("CapabilityStatement/$validate", statement))
        assert [one["severity"] for one in said] == ["information"], said[:3]

    def test_says_what_is_there(self, fhir: Fhir) -> None:
        [rest] = fhir.get("metadata").get_json()["rest"]
        types = {one["type"]: one for one in rest["resource"]}
        assert len(types) == 146
        assert {one["code"] for one in types["Slot"]["interaction"]} == {"read", "search-type"}
        assert [one["name"] for one in types["Appointment"]["operation"]] == ["find", "hold", "book"]
        assert {one["name"] for one in types["Observation"]["searchParam"]} >= {"code", "date", "patient", "_id"}


class TestSight:
    """Whose records somebody sees and writes."""

    @pytest.fixture
    def kept(self, fhir: Fhir, patient: str) -> Json:
        """A record of the patient's."""
        return fhir.made(pulse(patient))

    def test_carers_those_of_their_patients(self, clinic: Clinic, kept: Json, patient: str) -> None:
        doctor = clinic.clinician()
        path = f"Observation/{kept['id']}"
        assert Fhir(doctor).get(path).status_code == 404
        assert Fhir(doctor).ids("Observation") == []
        assert refusal(Fhir(doctor).post("Observation", pulse(patient))) == (422, "patient_unknown")
        clinic.relate({"id": patient.removeprefix("Patient/")}, doctor)
        assert Fhir(doctor).get(path).status_code == 200
        assert Fhir(doctor).ids("Observation") == [kept["id"]]
        assert Fhir(doctor).put(kept | {"status": "amended"}).status_code == 200

    def test_what_another_patient_says_is_in_the_record_of_whom_it_is_about(
        self, clinic: Clinic, fhir: Fhir, patient: str
    ) -> None:
        """A mother who is a patient herself, say."""
        mother, doctors = clinic.patient(), [clinic.clinician(), clinic.clinician()]
        for person, doctor in zip((patient.removeprefix("Patient/"), mother["id"]), doctors, strict=True):
            clinic.relate({"id": person}, doctor)
        system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
        active = {"coding": [{"system": system, "code": "active"}]}
        allergy = {"resourceType": "AllergyIntolerance", "patient": {"reference": patient}, "clinicalStatus": active}
        kept = fhir.made(allergy | {"asserter": {"reference": f"Patient/{mother['id']}"}})
        assert [Fhir(doctor).ids("AllergyIntolerance") for doctor in doctors] == [[kept["id"]], []]

    def test_through_a_broken_glass_for_an_hour(self, clinic: Clinic, kept: Json, patient: str) -> None:
        nurse, glass = clinic.user(Role.NURSE), {"reason_code": "EMERGENCY", "reason": "found unconscious"}
        assert nurse.post(f"/patients/{patient.removeprefix('Patient/')}/break-glass", glass).status_code == 201
        answer = Fhir(nurse).get(f"Observation/{kept['id']}")
        assert answer.status_code == 200
        trail = clinic.user(Role.AUDITOR).get("/audit/events", patient_id=patient.removeprefix("Patient/")).get_json()
        [event] = [one for one in trail["items"] if one["action"] == "record.read"]
        assert event["purpose"] == "BTG"

    def test_an_id_that_is_taken_is_not_told_of(self, clinic: Clinic, kept: Json, patient: str) -> None:
        other = clinic.patient()
        doctor = clinic.clinician()
        clinic.relate(other, doctor)
        assert Fhir(doctor).put(kept | {"subject": {"reference": f"Patient/{other['id']}"}}).status_code == 404

    def test_patients_their_own_and_only_to_read(self, clinic: Clinic, fhir: Fhir, kept: Json) -> None:
        own, caller = clinic.patient_with_account()
        mine = fhir.made(pulse(f"Patient/{own['id']}"))
        assert Fhir(caller).ids("Observation") == [mine["id"]]
        assert Fhir(caller).get(f"Observation/{kept['id']}").status_code == 404
        assert Fhir(caller).put(mine).status_code == 403

    def test_nobody_takes_their_own_record_away_as_staff(self, clinic: Clinic, fhir: Fhir) -> None:
        """Hard case: a clinician sees their own record as a patient, and would write it as staff, of somebody else."""
        own, doctor = clinic.patient(), clinic.user(Role.CLINICIAN, Role.PATIENT)
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            db.session.get_one(Patient, UUID(own["id"])).user_id = doctor.user_id
            db.session.commit()
        mine = fhir.made(pulse(f"Patient/{own['id']}"))
        assert Fhir(doctor).get(f"Observation/{mine['id']}").status_code == 200
        other = clinic.patient()
        clinic.relate(other, doctor)
        moved = mine | {"subject": {"reference": f"Patient/{other['id']}"}}
        assert refusal(Fhir(doctor).put(moved)) == (422, "patient_unknown")
        assert refusal(Fhir(doctor).put(mine | {"status": "amended"})) == (422, "patient_unknown")

    def test_what_is_of_no_patient_everybody_who_reads_records(self, clinic: Clinic, fhir: Fhir) -> None:
        organization = fhir.made({"resourceType": "Organization", "name": "Laboratory"})
        assert Fhir(clinic.clinician()).ids("Organization") == [organization["id"]]

    def test_another_organisation_nothing(self, other_clinic: Clinic, kept: Json) -> None:
        stranger = Fhir(other_clinic.program())
        assert stranger.get(f"Observation/{kept['id']}").status_code == 404
        assert stranger.ids("Observation") == []
        assert stranger.put(kept | {"subject": {"display": "x"}}).status_code == 201

    def test_of_a_patient_who_is_not_known_only_programs(self, clinic: Clinic, fhir: Fhir) -> None:
        kept = fhir.made(pulse("Patient/nobody"))
        assert fhir.get(f"Observation/{kept['id']}").status_code == 200
        assert Fhir(clinic.clinician()).get(f"Observation/{kept['id']}").status_code == 404

    def test_labels_keep_it_from_those_who_act_for_the_patient(self, clinic: Clinic, fhir: Fhir) -> None:
        secret = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]}
        child, mother = clinic.patient(birth_date=day_after(-3000)[:10]), clinic.user(Role.PATIENT)
        proposed = clinic.propose_proxy(child, mother)
        approve = f"/patients/{child['id']}/proxies/{proposed['id']}/approve"
        assert clinic.user(Role.ADMIN).post(approve).status_code == 200
        of_child = f"Patient/{child['id']}"
        plain, hidden = fhir.made(pulse(of_child)), fhir.made(pulse(of_child, meta=secret))
        assert Fhir(mother).ids("Observation") == [plain["id"]]
        assert Fhir(mother).get(f"Observation/{hidden['id']}").status_code == 404
