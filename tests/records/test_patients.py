"""A patient is one, whether the desk or a FHIR client wrote them."""

import pytest

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.records import service
from tests.clinic import Clinic, day_after
from tests.records.conftest import Fhir, pulse, refusal
from tests.records.samples import Json, examples, parsed, synthea, without_server_elements

EXAMPLES = [one for one in examples() if one["resourceType"] == "Patient"]


def person(**more: object) -> Json:
    name = {"family": "Okafor", "given": ["Grace"]}
    return {"resourceType": "Patient", "name": [name], "gender": "female", "birthDate": "1980-05-17"} | more


class TestFromTheDesk:
    def test_is_a_patient_at_once(self, clinic: Clinic, fhir: Fhir) -> None:
        made = clinic.patient(
            given_name="Åsa",
            family_name="Müller",
            email="asa@example.org",
            phone="+49 30 901820",
            address={"line": ["Am Markt 1"], "city": "Bonn", "postal_code": "53111"},
            identifiers=[{"system": "urn:x", "value": "7"}],
        )
        read = fhir.get(f"Patient/{made['id']}").get_json()
        assert without_server_elements(read) == {
            "resourceType": "Patient",
            "name": [{"use": "official", "family": "Müller", "given": ["Åsa"]}],
            "gender": "female",
            "birthDate": "1980-05-17",
            "telecom": [{"system": "phone", "value": "+49 30 901820"}, {"system": "email", "value": "asa@example.org"}],
            "address": [{"line": ["Am Markt 1"], "city": "Bonn", "postalCode": "53111"}],
            "identifier": [{"system": "urn:x", "value": "7"}],
        }

    def test_changes_and_keeps_what_it_was(self, clinic: Clinic, fhir: Fhir) -> None:
        made = clinic.patient()
        assert clinic.admin.patch(f"/patients/{made['id']}", {"family_name": "Renamed"}).status_code == 200
        path = f"Patient/{made['id']}"
        now = fhir.get(path)
        assert (now.get_json()["name"][0]["family"], now.headers["ETag"]) == ("Renamed", 'W/"2"')
        assert fhir.get(f"{path}/_history/1").get_json()["name"][0]["family"] == made["family_name"]

    @pytest.mark.parametrize(
        "query",
        [
            "name=mull",
            "family=MULLER",
            "given=asa",
            "birthdate=1979",
            "identifier=urn:x|7",
            "phone=%2B49%2030%20901820",
            "gender=male",
            "address-city=bonn",
        ],
    )
    def test_is_found(self, clinic: Clinic, fhir: Fhir, query: str) -> None:
        clinic.patient()
        names = {"given_name": "Åsa", "family_name": "Müller", "sex": "male", "birth_date": "1979-05-17"}
        found_by = {
            "phone": "+49 30 901820",
            "identifiers": [{"system": "urn:x", "value": "7"}],
            "address": {"city": "Bonn"},
        }
        made = clinic.patient(**names, **found_by)
        assert fhir.ids(f"Patient?{query}") == [made["id"]]

    def test_goes_with_their_records(self, clinic: Clinic, fhir: Fhir) -> None:
        made = clinic.patient(family_name="Chained")
        kept = fhir.made(pulse(f"Patient/{made['id']}"))
        assert fhir.ids("Observation?patient.name=chained") == [kept["id"]]
        assert fhir.ids("Observation?_include=Observation:patient", "include") == [made["id"]]
        assert fhir.ids("Patient?_revinclude=Observation:patient", "include") == [kept["id"]]

    def test_one_made_in_another_way_is_caught_up_with(self, clinic: Clinic, fhir: Fhir) -> None:
        made = clinic.patient()
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            db.session.execute(
                db.text("UPDATE patient SET family_name = 'Behind', version = version + 1 WHERE id = :id"), made
            )
            db.session.commit()
        with clinic.app.app_context():
            assert service.catch_up([clinic.organization_id]) >= 1
            assert service.catch_up([clinic.organization_id]) == 0
        assert fhir.get(f"Patient/{made['id']}").get_json()["name"][0]["family"] == "Behind"


class TestFromAClient:
    @pytest.mark.parametrize("sent", EXAMPLES, ids=[one["id"] for one in EXAMPLES])
    def test_comes_back_as_it_was(self, fhir: Fhir, sent: Json) -> None:
        kept = fhir.made(sent)
        assert without_server_elements(kept) == without_server_elements(sent)
        assert parsed(fhir.get(f"Patient/{kept['id']}").text) == kept

    def test_is_at_the_desk_at_once(self, clinic: Clinic, fhir: Fhir) -> None:
        telecom = [{"system": "phone", "value": "+49 30 901820"}, {"system": "email", "value": "grace@example.org"}]
        identifier = [{"system": "urn:x", "value": "7"}]
        kept = fhir.made(person(telecom=telecom, identifier=identifier))
        there = clinic.admin.get(f"/patients/{kept['id']}").get_json()
        assert (there["given_name"], there["family_name"], there["birth_date"]) == ("Grace", "Okafor", "1980-05-17")
        assert (there["email"], there["phone"], there["version"]) == ("grace@example.org", "+49 30 901820", 1)
        assert there["identifiers"] == identifier

    def test_what_has_no_column_outlives_a_change_at_the_desk(self, clinic: Clinic, fhir: Fhir) -> None:
        more = {
            "maritalStatus": {"text": "married"},
            "_birthDate": {"extension": [{"url": "a", "valueDateTime": "1980"}]},
        }
        kept = fhir.made(person(**more))
        changed = clinic.admin.patch(f"/patients/{kept['id']}", {"phone": "+49 30 901820"})
        assert changed.get_json()["version"] == 2
        now = fhir.get(f"Patient/{kept['id']}").get_json()
        assert now["telecom"] == [{"system": "phone", "value": "+49 30 901820"}]
        assert without_server_elements(now).items() >= more.items()

    def test_is_changed_in_its_next_version(self, clinic: Clinic, fhir: Fhir) -> None:
        kept = fhir.made(person())
        assert fhir.put(kept | {"maritalStatus": {"text": "married"}}, If_Match='W/"1"').headers["ETag"] == 'W/"2"'
        assert fhir.put(kept | {"gender": "male"}, If_Match='W/"2"').headers["ETag"] == 'W/"3"'
        there = clinic.admin.get(f"/patients/{kept['id']}").get_json()
        assert (there["sex"], there["version"]) == ("male", 3)
        assert refusal(fhir.put(kept, If_Match='W/"2"')) == (412, "stale")

    def test_refusals(self, clinic: Clinic, fhir: Fhir) -> None:
        fhir.made(person(identifier=[{"system": "urn:x", "value": "7"}]))
        taken = fhir.post("Patient", person(identifier=[{"system": "urn:x", "value": "7"}]))
        assert refusal(taken) == (409, "identifier_taken")
        for unknown in ("not-a-uuid", "01a21c7f-d9dc-769d-94a4-e69ea9dd1c14"):  # ids of patients are ours
            assert refusal(fhir.put(person(id=unknown))) == (404, "not_found")
        assert refusal(fhir.call("DELETE", f"Patient/{fhir.ids('Patient')[0]}")) == (405, "not_here")
        assert len(fhir.ids("Patient")) == 1

    @pytest.mark.parametrize("wrong", [person(birthDate="1980"), {"resourceType": "Patient"}])
    def test_incomplete_they_are_documents_until_they_are_complete(
        self, clinic: Clinic, fhir: Fhir, wrong: Json
    ) -> None:
        """What programs keep of them meanwhile is theirs from then on; people register whole patients only."""
        nurse = Fhir(clinic.user(Role.NURSE))
        assert refusal(nurse.post("Patient", wrong)) == (422, "patient_incomplete")
        kept = fhir.made(wrong)
        of_them = fhir.made(pulse(f"Patient/{kept['id']}"))
        assert clinic.admin.get(f"/patients/{kept['id']}").status_code == 404
        whole = fhir.put(person(id=kept["id"]))
        assert (whole.status_code, whole.headers["ETag"]) == (200, 'W/"2"')
        there = clinic.admin.get(f"/patients/{kept['id']}").get_json()
        assert (there["family_name"], there["version"]) == ("Okafor", 2)
        assert clinic.admin.patch(f"/patients/{kept['id']}", {"phone": "+49 30 901820"}).get_json()["version"] == 3
        assert fhir.ids(f"Patient/{kept['id']}/$everything?_type=Observation") == [of_them["id"]]
        assert refusal(fhir.put(wrong | {"id": kept["id"]})) == (422, "patient_incomplete")

    def test_what_is_too_long_for_the_desk_is_kept_beside(self, clinic: Clinic, fhir: Fhir) -> None:
        long = "x" * 5000
        sent = person(name=[{"family": long, "given": [long]}], identifier=[{"system": "urn:x", "value": long}])
        kept = fhir.made(sent)
        there = clinic.admin.get(f"/patients/{kept['id']}").get_json()
        assert (len(there["family_name"]), len(there["given_name"]), there["identifiers"]) == (200, 200, [])
        assert clinic.admin.patch(f"/patients/{kept['id']}", {"phone": "+49 30 901820"}).status_code == 200
        now = fhir.get(f"Patient/{kept['id']}").get_json()
        assert (now["name"], now["identifier"]) == (sent["name"], sent["identifier"])

    def test_carers_see_theirs(self, clinic: Clinic, fhir: Fhir) -> None:
        kept, doctor = fhir.made(person()), clinic.clinician()
        assert Fhir(doctor).get(f"Patient/{kept['id']}").status_code == 404
        clinic.relate(kept, doctor)
        assert Fhir(doctor).ids("Patient?name=okafor") == [kept["id"]]
        own, caller = clinic.patient_with_account(birth_date=day_after(-9000)[:10])
        assert Fhir(caller).ids("Patient") == [own["id"]]


def test_everything_of_a_synthetic_patient(clinic: Clinic, fhir: Fhir) -> None:
    """As it comes, in one transaction; and it reads back as it was, but for what refers to others of it."""
    whole = synthea()
    answer = fhir.post("", whole)
    assert answer.status_code == 200, answer.text
    [own] = fhir.ids("Patient")
    assert clinic.admin.get(f"/patients/{own}").status_code == 200
    kinds = [entry["resource"]["resourceType"] for entry in whole["entry"]]
    for kind in ("Observation", "Encounter", "Immunization", "Condition"):
        assert fhir.bundle(f"{kind}?patient={own}&_summary=count")["total"] == kinds.count(kind)
    [sent] = [entry["resource"] for entry in whole["entry"] if entry["resource"]["resourceType"] == "Patient"]
    assert without_server_elements(parsed(fhir.get(f"Patient/{own}").text)) == without_server_elements(sent)
