"""Two patients who are one, and who are two again."""

from typing import Any

import pytest

from medical.identity.permissions import Role
from tests.clinic import Clinic, day_after
from tests.records.conftest import Fhir

MRN = "urn:oid:1.2.3"


class Pair:
    """One person who was registered twice, with something behind each of them."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.admin = clinic, clinic.admin
        self.doctor, self.kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(self.doctor)
        self.target = clinic.patient(identifiers=[{"system": MRN, "value": "stays"}])
        self.source = clinic.patient(identifiers=[{"system": MRN, "value": "goes"}])
        self.visit = clinic.appointment(self.source, self.doctor, self.kind, day_after(5, "10:00"))
        self.fhir = Fhir(clinic.program())
        self.pulse = self.fhir.made(observation(self.source))

    def merge(self, source: str | None = None, target: str | None = None) -> Any:
        """The answer to a merge."""
        body = {"source_patient_id": source or self.source["id"], "reason": "same insurance card"}
        return self.admin.post(f"/patients/{target or self.target['id']}/merges", body)

    def merged(self) -> dict[str, Any]:
        """A merge that came about."""
        answer = self.merge()
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def undo(self, merge: dict[str, Any]) -> Any:
        """The answer to taking a merge back."""
        return self.admin.post(f"/patients/{merge['target_patient_id']}/merges/{merge['id']}/undo")

    def patient(self, patient: dict[str, Any]) -> dict[str, Any]:
        """A patient as they are now."""
        found: dict[str, Any] = self.admin.get(f"/patients/{patient['id']}").get_json()
        return found


def observation(patient: dict[str, Any]) -> dict[str, Any]:
    """An observation with a decimal that must stay as it is."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "temperature"},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "valueQuantity": {"value": 36.50, "unit": "Cel"},
    }


@pytest.fixture
def pair(clinic: Clinic) -> Pair:
    """The two."""
    return Pair(clinic)


class TestMerge:
    """`POST /patients/{id}/merges`."""

    def test_moves_what_is_of_the_other(self, pair: Pair) -> None:
        """Visits, records, identifiers, care: with a version of each, and as they were."""
        nurse = pair.clinic.user(Role.NURSE)
        pair.clinic.relate(pair.source, nurse)
        merge = pair.merged()
        assert merge["moved"] == {
            "account": 0,
            "appointment": 1,
            "appointment_series": 0,
            "care_relationship": 1,
            "patient_identifier": 1,
            "resource": 1,
            "waitlist_entry": 0,
        }
        visit = pair.admin.get(f"/appointments/{pair.visit['id']}").get_json()
        assert (visit["patient_id"], visit["version"]) == (pair.target["id"], 2)
        assert [one["value"] for one in pair.patient(pair.target)["identifiers"]] == ["goes", "stays"]
        assert nurse.get(f"/patients/{pair.target['id']}").status_code == 200
        moved = pair.fhir.get(f"Observation/{pair.pulse['id']}")
        assert moved.get_json()["subject"]["reference"] == f"Patient/{pair.target['id']}"
        assert "36.5" in moved.text
        assert moved.headers["ETag"] == 'W/"2"'
        former = pair.fhir.get(f"Observation/{pair.pulse['id']}/_history/1").get_json()
        assert former["subject"]["reference"] == f"Patient/{pair.source['id']}"
        assert pair.fhir.ids(f"Observation?patient={pair.target['id']}&status=final") == [pair.pulse["id"]]
        assert pair.fhir.ids(f"Observation?patient={pair.source['id']}&status=final") == []

    def test_says_who_the_other_turned_out_to_be(self, pair: Pair) -> None:
        """As a column of the JSON API, and as FHIR's link."""
        pair.merged()
        assert pair.patient(pair.source)["merged_into"] == pair.target["id"]
        assert pair.patient(pair.target)["merged_into"] is None
        document = pair.fhir.get(f"Patient/{pair.source['id']}").get_json()
        assert document["active"] is False
        reference = {"reference": f"Patient/{pair.target['id']}"}
        assert document["link"] == [{"other": reference, "type": "replaced-by"}]
        of_target = pair.fhir.get(f"Patient/{pair.target['id']}").get_json()
        assert of_target["link"] == [{"other": {"reference": f"Patient/{pair.source['id']}"}, "type": "replaces"}]
        assert {one["value"] for one in pair.fhir.get(f"Patient/{pair.target['id']}").get_json()["identifier"]} == {
            "goes",
            "stays",
        }

    def test_leaves_nothing_to_do_with_the_other(self, pair: Pair) -> None:
        """Not found, not booked, not changed, not merged again."""
        pair.merged()
        name = pair.source["family_name"]
        for caller in (pair.admin, pair.clinic.user(Role.NURSE)):
            found = caller.get("/patients", q=name).get_json()["items"]
            assert pair.source["id"] not in [one["id"] for one in found]
        booking = pair.clinic.booking(pair.source, pair.doctor, pair.kind, day_after(6, "10:00"))
        assert pair.admin.post("/appointments", booking).status_code == 404
        changed = pair.admin.patch(f"/patients/{pair.source['id']}", {"phone": "+49 30 901821"})
        assert changed.get_json()["code"] == "patient_merged"
        assert pair.merge().get_json()["code"] == "patient_merged"
        third = pair.clinic.patient()
        assert pair.merge(third["id"], pair.source["id"]).get_json()["code"] == "patient_merged"

    def test_takes_no_two_visits_at_once(self, pair: Pair) -> None:
        """PostgreSQL refuses it, and nothing is half done."""
        colleague = pair.clinic.clinician(time_zone="UTC")
        pair.clinic.hours(colleague)
        pair.clinic.appointment(pair.target, colleague, pair.kind, day_after(5, "10:00"))
        assert (pair.merge().status_code, pair.merge().get_json()["code"]) == (409, "both_busy")
        assert pair.patient(pair.source)["merged_into"] is None
        assert pair.fhir.ids(f"Observation?patient={pair.source['id']}") == [pair.pulse["id"]]

    def test_moves_the_account_of_one(self, clinic: Clinic) -> None:
        """Who then sees the whole record; of two accounts none is chosen."""
        source, own = clinic.patient_with_account()
        target, other = clinic.patient_with_account()
        body = {"source_patient_id": source["id"], "reason": "same"}
        answer = clinic.admin.post(f"/patients/{target['id']}/merges", body)
        assert (answer.status_code, answer.get_json()["code"]) == (409, "both_have_accounts")
        third = clinic.patient()
        merge = clinic.admin.post(f"/patients/{third['id']}/merges", body).get_json()
        assert merge["moved"]["account"] == 1
        assert own.get("/me").get_json()["patient_id"] == third["id"]
        assert own.get(f"/patients/{third['id']}").status_code == 200
        assert clinic.admin.post(f"/patients/{third['id']}/merges/{merge['id']}/undo").status_code == 200
        assert own.get("/me").get_json()["patient_id"] == source["id"]
        assert other.get("/me").get_json()["patient_id"] == target["id"]

    def test_is_of_two(self, pair: Pair, other_clinic: Clinic) -> None:
        """Not of one and the same, and not across clinics."""
        assert pair.merge(pair.target["id"]).status_code == 422
        assert pair.merge(other_clinic.patient()["id"]).status_code == 404

    def test_leaves_events_for_both(self, pair: Pair) -> None:
        """Whoever looks at either of them finds it."""
        pair.merged()
        auditor = pair.clinic.user(Role.AUDITOR)
        for patient in (pair.source, pair.target):
            query = {"patient_id": patient["id"], "action": "patient.merged"}
            assert len(auditor.get("/audit/events", **query).get_json()["items"]) == 1


class TestUndo:
    """`POST /patients/{id}/merges/{merge}/undo`."""

    def test_gives_back_what_was_moved(self, pair: Pair) -> None:
        """And leaves what came since, and was there before."""
        own = [{"other": {"reference": f"Patient/{pair.clinic.patient()['id']}"}, "type": "seealso"}]
        assert (
            pair.fhir.put(pair.fhir.get(f"Patient/{pair.target['id']}").get_json() | {"link": own}).status_code == 200
        )
        merge = pair.merged()
        assert len(pair.fhir.get(f"Patient/{pair.target['id']}").get_json()["link"]) == 2
        since = pair.fhir.made(observation(pair.target))
        answer = pair.undo(merge)
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["undone_by"] == pair.admin.id
        assert pair.admin.get(f"/appointments/{pair.visit['id']}").get_json()["patient_id"] == pair.source["id"]
        assert pair.fhir.ids(f"Observation?patient={pair.source['id']}") == [pair.pulse["id"]]
        assert pair.fhir.ids(f"Observation?patient={pair.target['id']}&status=final") == [since["id"]]
        assert [one["value"] for one in pair.patient(pair.source)["identifiers"]] == ["goes"]
        document = pair.fhir.get(f"Patient/{pair.source['id']}").get_json()
        assert "link" not in document
        assert "active" not in document
        assert pair.fhir.get(f"Patient/{pair.target['id']}").get_json()["link"] == own
        booking = pair.clinic.booking(pair.source, pair.doctor, pair.kind, day_after(6, "10:00"))
        assert pair.admin.post("/appointments", booking).status_code == 201

    def test_is_once_and_from_the_last(self, pair: Pair) -> None:
        """Not twice, and not below another merge."""
        merge = pair.merged()
        third = pair.clinic.patient()
        last = pair.merge(pair.target["id"], third["id"]).get_json()
        assert pair.undo(merge).get_json()["code"] == "merge_undone"
        assert pair.undo(last).status_code == 200
        assert pair.undo(merge).status_code == 200
        assert pair.undo(merge).get_json()["code"] == "merge_undone"
        listed = pair.admin.get(f"/patients/{pair.target['id']}/merges").get_json()["items"]
        assert [one["id"] for one in listed] == [last["id"], merge["id"]]
        assert all(one["undone_at"] for one in listed)

    def test_can_be_merged_again(self, pair: Pair) -> None:
        """As if nothing had been."""
        assert pair.undo(pair.merged()).status_code == 200
        assert pair.merge().status_code == 201


def test_the_programs_role_cannot_move_a_visit_by_itself(pair: Pair, app: Any) -> None:
    """Only by the function that says what it moved (ACC-08, ACC-09)."""
    from sqlalchemy import text
    from sqlalchemy.exc import ProgrammingError

    from medical.platform.db import Scope, db, scoped

    with app.app_context(), scoped(Scope(pair.clinic.organization_id)), pytest.raises(ProgrammingError, match="denied"):
        db.session.execute(text("UPDATE appointment SET patient_id = patient_id"))
