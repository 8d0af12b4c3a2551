"""Who works here and where: one with the accounts, clinicians and sites of the JSON API."""

from medical.platform.db import Scope, db, enter, scoped
from medical.records import service
from medical.records.validation import validate
from tests.clinic import Clinic
from tests.records.conftest import Fhir, pulse, refusal
from tests.records.samples import without_server_elements


class TestFromTheDesk:
    def test_a_clinician_is_a_practitioner_with_a_role_at_once(self, clinic: Clinic, fhir: Fhir) -> None:
        site = clinic.admin.post("/locations", {"name": "Harbour", "time_zone": "Europe/Berlin"}).get_json()
        doctor = clinic.clinician(location_id=site["id"])
        told = clinic.admin.get(f"/clinicians/{doctor.id}").get_json()
        read = fhir.get(f"Practitioner/{doctor.id}").get_json()
        assert read["name"] == [{"use": "official", "family": told["family_name"], "given": [told["given_name"]]}]
        role = fhir.get(f"PractitionerRole/{doctor.id}").get_json()
        assert role["specialty"] == [{"text": told["specialty"]}]
        place = fhir.get(f"Location/{site['id']}").get_json()
        assert (place["name"], place["extension"][0]["valueCode"]) == ("Harbour", "Europe/Berlin")
        assert not [problem for one in (read, role, place) for problem in validate(one)]
        found = fhir.bundle(f"PractitionerRole?location={site['id']}&_include=PractitionerRole:practitioner")["entry"]
        assert [one["resource"]["id"] for one in found] == [doctor.id] * 2

    def test_changes_follow(self, clinic: Clinic, fhir: Fhir) -> None:
        doctor = clinic.clinician()
        assert clinic.admin.patch(f"/users/{doctor.id}", {"family_name": "Renamed"}).status_code == 200
        assert fhir.ids("Practitioner?family=renamed") == [doctor.id]
        assert fhir.get(f"Practitioner/{doctor.id}").headers["ETag"] == 'W/"2"'
        assert clinic.admin.post(f"/users/{doctor.id}/deactivate").status_code == 200
        assert fhir.ids("Practitioner?active=false") == [doctor.id]

    def test_what_came_by_other_ways_is_caught_up_with_once(self, clinic: Clinic, fhir: Fhir) -> None:
        with clinic.app.app_context():
            service.catch_up([clinic.organization_id])
            assert service.catch_up([clinic.organization_id]) == 0
            with scoped(Scope(clinic.organization_id)):
                db.session.rollback()
            enter(None)
        organization = fhir.get(f"Organization/{clinic.organization_id}").get_json()
        assert organization["active"] is True
        assert not validate(organization)


class TestFromClients:
    def test_what_has_no_column_is_kept_and_the_rest_is_not_theirs_to_change(self, clinic: Clinic, fhir: Fhir) -> None:
        doctor = clinic.clinician()
        kept = fhir.get(f"Practitioner/{doctor.id}").get_json()
        more = kept | {"gender": "female", "identifier": [{"system": "urn:npi", "value": "7"}]}
        assert fhir.put(more).status_code == 200
        assert refusal(fhir.put(more | {"active": False})) == (422, "kept_elsewhere")
        assert refusal(fhir.put(more | {"name": [{"family": "Other"}]})) == (422, "kept_elsewhere")
        assert refusal(fhir.call("DELETE", f"Practitioner/{doctor.id}")) == (422, "kept_elsewhere")
        clinic.admin.patch(f"/users/{doctor.id}", {"family_name": "Renamed"})
        now = fhir.get(f"Practitioner/{doctor.id}").get_json()
        assert now["name"][0]["family"] == "Renamed"
        assert without_server_elements(now).items() >= {"gender": "female", "identifier": more["identifier"]}.items()

    def test_others_are_documents_of_their_own(self, clinic: Clinic, fhir: Fhir) -> None:
        """Somebody at another house has no account here."""
        made = fhir.made({"resourceType": "Practitioner", "name": [{"family": "House"}], "active": True})
        assert fhir.put(made | {"active": False}).status_code == 200
        assert clinic.admin.get("/clinicians").get_json()["items"] == []
        assert fhir.call("DELETE", f"Practitioner/{made['id']}").status_code == 204
        seen = fhir.made(pulse(None, performer=[{"reference": f"Practitioner/{clinic.clinician().id}"}]))
        assert fhir.ids("Observation?_include=Observation:performer", "include") == [
            seen["performer"][0]["reference"].split("/")[1]
        ]
