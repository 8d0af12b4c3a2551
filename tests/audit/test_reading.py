"""Reading the trail over HTTP: auditors the organisation's, patients what concerns their own record."""

from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from psycopg import sql

from medical.audit.events import Action
from medical.audit.words import DONE
from medical.identity.permissions import Role
from tests.audit.conftest import Trail, live_a_little
from tests.clinic import Caller, Clinic, Statements, day_after

Json = dict[str, Any]

OF_PATIENTS = ("patient.", "care.", "break-glass.", "appointment.", "access-log.")
"""What begins so is done to a patient."""


def read(caller: Caller, path: str, **query: Any) -> list[Json]:
    """All items of a list, page by page."""
    items: list[Json] = []
    cursor = None
    while True:
        answer = caller.get(path, cursor=cursor, **query)
        assert answer.status_code == 200, answer.text
        page = answer.get_json()
        items += page["items"]
        cursor = page["next"]
        if cursor is None:
            return items


@pytest.fixture
def auditor(clinic: Clinic) -> Caller:
    """Who reads the trail of the clinic."""
    return clinic.user(Role.AUDITOR)


class TestEvents:
    """``GET /audit/events`` (AUD-07)."""

    def test_are_listed_newest_first_page_by_page(self, clinic: Clinic, auditor: Caller) -> None:
        """With whoever did it, by name, and without what was read."""
        patient = clinic.patient(family_name="Notinthetrail", phone="+49 30 5551234")
        for _ in range(5):
            clinic.admin.get(f"/patients/{patient['id']}")
        found = read(auditor, "/audit/events", limit=2, patient_id=patient["id"])
        times = [(event["occurred_at"], event["id"]) for event in found]
        assert times == sorted(times, reverse=True)
        done = [event["action"] for event in found if not event["action"].startswith("audit")]
        assert done == ["patient.read"] * 5 + ["patient.registered"]
        event = next(event for event in found if event["action"] == "patient.read")
        assert event["actor_id"] == clinic.admin.id
        assert event["actor_name"].startswith("Robin Tester")
        assert (event["actor_roles"], event["outcome"], event["source"]) == (["admin"], "success", "127.0.0.1")
        assert "Notinthetrail" not in str(found)
        assert "5551234" not in str(found)

    def test_are_narrowed_by_what_is_asked(self, clinic: Clinic, auditor: Caller) -> None:
        """By time, actor, patient, action and outcome, alone and together."""
        patient, nurse = clinic.patient(), clinic.user(Role.NURSE)
        nurse.get(f"/patients/{patient['id']}")
        clinic.admin.get(f"/patients/{patient['id']}")
        [refused] = read(auditor, "/audit/events", actor_id=nurse.id)
        assert (refused["action"], refused["outcome"], refused["code"]) == ("patient.read", "refused", "not_found")
        assert read(auditor, "/audit/events", outcome="refused", patient_id=patient["id"]) == [refused]
        assert read(auditor, "/audit/events", action="patient.read", outcome="success", actor_id=nurse.id) == []
        early = read(auditor, "/audit/events", to=refused["occurred_at"], patient_id=patient["id"])
        assert [event["action"] for event in early] == ["patient.registered"]
        late = read(auditor, "/audit/events", from_=refused["occurred_at"], patient_id=patient["id"])
        assert refused in late
        assert late[-1] == refused
        answer = auditor.get("/audit/events", from_="2026-01-02T00:00:00Z", to="2026-01-01T00:00:00Z")
        assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "/to")

    def test_reading_them_leaves_one_too(self, clinic: Clinic, auditor: Caller) -> None:
        """Who watches is watched: by whom, and about which patient."""
        patient = clinic.patient()
        read(auditor, "/audit/events", patient_id=patient["id"])
        auditor.get("/audit/verify")
        left = read(auditor, "/audit/events", actor_id=auditor.id)
        assert [(event["action"], event["patient_id"]) for event in left] == [
            ("audit.verified", None),
            ("audit.read", patient["id"]),
        ]

    def test_another_organisations_never_appear(
        self, clinic: Clinic, other_clinic: Clinic, auditor: Caller, app: Flask
    ) -> None:
        """Neither its events nor its names, nor those of nobody."""
        theirs = other_clinic.patient()
        Caller(app).post("/auth/login", {"email": "nobody@reading.example", "password": "some password or other"})
        clinic.patient()
        found = read(auditor, "/audit/events")
        assert {event["actor_id"] for event in found} <= {clinic.admin.id, auditor.id}
        assert read(auditor, "/audit/events", patient_id=theirs["id"])[1:] == []
        assert read(auditor, "/audit/events", actor_id=other_clinic.admin.id) == []

    def test_take_a_fixed_number_of_statements(self, clinic: Clinic, auditor: Caller, statements: Statements) -> None:
        """However many are shown."""
        counts = []
        for more in (1, 15):
            for _ in range(more):
                clinic.patient()
            statements.clear()
            auditor.get("/audit/events")
            counts.append(statements.count)
        assert counts[0] == counts[1]


class TestAccessLog:
    """``GET /patients/{id}/access-log`` (AUD-07): who opened or changed my record."""

    def test_tells_the_patient_in_plain_words(self, clinic: Clinic) -> None:
        """Who, in which role, what, newest first; and that it was read, the next time."""
        patient, own = clinic.patient_with_account()
        doctor, kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(doctor)
        clinic.relate(patient, doctor)
        doctor.get(f"/patients/{patient['id']}")
        clinic.admin.post("/appointments", clinic.booking(patient, doctor, kind, day_after(7, "10:00")))
        own.patch(f"/patients/{patient['id']}", {"phone": "+49 30 901820"})
        log = read(own, f"/patients/{patient['id']}/access-log")
        said = [(entry["what"].replace(entry["who"], "…"), entry["role"]) for entry in log]
        assert said == [
            ("… changed your details.", "patient"),
            ("… booked an appointment for you.", "administration"),
            ("… opened your record.", "clinician"),
            ("… gave somebody the care of you.", "administration"),
            ("… registered you as a patient, or looked whether you are one.", "administration"),
        ]
        [changed, *_] = [entry for entry in log if entry["action"] == "patient.updated"]
        assert (changed["who"], changed["refused"], changed["break_glass"]) == ("You", False, False)
        [opened] = [entry for entry in log if entry["action"] == "patient.read"]
        assert opened["who"].startswith("Dr Robin Tester")
        again = read(own, f"/patients/{patient['id']}/access-log")
        assert again[0]["what"] == "You read this list."

    def test_marks_what_went_through_a_broken_glass(self, clinic: Clinic) -> None:
        """With its reason; what the same person does without one is not marked."""
        patient, own = clinic.patient_with_account()
        nurse = clinic.user(Role.NURSE)
        assert nurse.get(f"/patients/{patient['id']}").status_code == 404
        opening = {"reason_code": "EMERGENCY", "reason": "found unconscious"}
        assert nurse.post(f"/patients/{patient['id']}/break-glass", opening).status_code == 201
        assert nurse.get(f"/patients/{patient['id']}").status_code == 200
        log = read(own, f"/patients/{patient['id']}/access-log")
        [after, opened, before] = [entry for entry in log if entry["role"] == "nurse"]
        assert (after["action"], after["break_glass"], after["reason_code"]) == ("patient.read", True, "EMERGENCY")
        assert after["reason"] == "Emergency access, for an emergency: somebody else judges whether it was right."
        assert opened["what"].endswith("opened your record in an emergency, without caring for you.")
        assert (before["refused"], before["break_glass"]) == (True, False)
        assert "found unconscious" not in str(log), "the reason in full is for the reviewer"

    def test_shows_refusals_of_access_and_no_other(self, clinic: Clinic, auditor: Caller) -> None:
        """A time that was taken is nothing about the record; auditors see that too."""
        (patient, own), stranger = clinic.patient_with_account(), clinic.user(Role.PATIENT)
        doctor, kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(doctor)
        booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00"))
        assert clinic.admin.post("/appointments", booking).status_code == 201
        assert clinic.admin.post("/appointments", booking).status_code == 409
        assert stranger.get(f"/patients/{patient['id']}").status_code == 404
        refused = [entry for entry in read(own, f"/patients/{patient['id']}/access-log") if entry["refused"]]
        assert [entry["action"] for entry in refused] == ["patient.read"]
        assert "was refused" in refused[0]["what"]
        seen = [entry for entry in read(auditor, f"/patients/{patient['id']}/access-log") if entry["refused"]]
        assert [entry["action"] for entry in seen] == ["patient.read", "appointment.booked"]

    def test_is_the_patients_own_and_the_auditors(self, clinic: Clinic, other_clinic: Clinic, auditor: Caller) -> None:
        """Others get 403 or 404, for another organisation's and for nobody's as well."""
        (patient, own), (_, other) = clinic.patient_with_account(), clinic.patient_with_account()
        path = f"/patients/{patient['id']}/access-log"
        assert (own.get(path).status_code, auditor.get(path).status_code) == (200, 200)
        assert other.get(path).status_code == 404
        for role in (Role.ADMIN, Role.CLINICIAN, Role.NURSE, Role.RECEPTIONIST, Role.SERVICE):
            assert clinic.user(role).get(path).status_code == 403
        for caller in (auditor, own):
            assert caller.get(f"/patients/{other_clinic.patient()['id']}/access-log").status_code == 404
            assert caller.get(f"/patients/{uuid4()}/access-log").status_code == 404

    def test_takes_a_fixed_number_of_statements(self, clinic: Clinic, statements: Statements) -> None:
        """However long it is."""
        patient, own = clinic.patient_with_account()
        counts = []
        for more in (1, 20):
            for _ in range(more):
                clinic.admin.get(f"/patients/{patient['id']}")
            statements.clear()
            own.get(f"/patients/{patient['id']}/access-log")
            counts.append(statements.count)
        assert counts[0] == counts[1]

    def test_has_words_for_everything_that_is_done_to_patients(self) -> None:
        """A new action fails here until somebody has said what it means."""
        assert [action for action in Action if action.startswith(OF_PATIENTS) and action not in DONE] == []


class TestVerify:
    """``GET /audit/verify``: whether the trail is whole, and where it first is not."""

    @pytest.fixture
    def practice(self, trail: Trail) -> tuple[Clinic, Caller]:
        """A clinic with a sealed trail, in which another one has its part."""
        practice = Clinic(trail.app)
        for clinic in (Clinic(trail.app), practice, Clinic(trail.app)):
            live_a_little(clinic, patients=2)
        trail.seal(limit=7)
        return practice, practice.user(Role.AUDITOR)

    @staticmethod
    def damage(trail: Trail, statement: str, position: int) -> UUID:
        """Do something to the event at a place of the chain."""
        with trail.connect() as connection:
            [(event_id,)] = connection.execute(
                "SELECT event_id FROM audit_link WHERE position = %s", [position]
            ).fetchall()
            connection.execute(sql.SQL(statement).format(sql.Literal(event_id)))
        return UUID(str(event_id))

    @staticmethod
    def place(trail: Trail, clinic: Clinic, *, own: bool) -> int:
        """Some place of the chain that has an event of the clinic, or of another one."""
        query = (
            "SELECT l.position FROM audit_link l JOIN audit_event e ON e.id = l.event_id"
            " WHERE (e.organization_id = %s) = %s ORDER BY l.position DESC LIMIT 1 OFFSET 3"
        )
        with trail.connect() as connection:
            [(position,)] = connection.execute(query, [clinic.organization_id, own]).fetchall()
        return int(position)

    def test_says_that_it_is(self, trail: Trail, practice: tuple[Clinic, Caller]) -> None:
        """From its beginning to its end, with the key to compare."""
        found = practice[1].get("/audit/verify").get_json()
        assert found["whole"] is True
        assert (found["first_problem"], found["problems"], found["first_position"]) == (None, 0, 1)
        assert found["public_keys"] == [trail.public_key]
        assert 0 < found["own_events"] < found["last_position"]
        assert found["waiting"] == trail.waiting() - 1, "but for the event of this very request"
        assert found["next_before"] is None

    def test_goes_back_part_by_part(self, trail: Trail, practice: tuple[Clinic, Caller]) -> None:
        """Each joined to the one before; together they are all."""
        before, covered = None, []
        while True:
            found = practice[1].get("/audit/verify", seals=2, before=before).get_json()
            assert found.get("whole"), found
            covered.append((found["first_position"], found["last_position"]))
            before = found["next_before"]
            if before is None:
                break
        assert len(covered) >= 3
        assert covered[-1][0] == 1
        assert all(one[0] == other[1] + 1 for one, other in pairwise(covered))

    @pytest.mark.parametrize("own", [True, False])
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM audit_event WHERE id = {}",
            "UPDATE audit_event SET digest = sha256('x') WHERE id = {}",
            "UPDATE audit_link SET hash = sha256('x') WHERE event_id = {}",
            "DELETE FROM audit_link WHERE event_id = {}",
        ],
    )
    def test_says_where_it_is_not(
        self, trail: Trail, practice: tuple[Clinic, Caller], own: bool, statement: str
    ) -> None:
        """In one's own part of it and in that of others, of which nothing else is told."""
        position = self.place(trail, practice[0], own=own)
        self.damage(trail, statement, position)
        found = practice[1].get("/audit/verify", seals=1000).get_json()
        assert found["whole"] is False
        assert found["first_problem"]["position"] == position
        assert set(found["first_problem"]) == {"kind", "detail", "position", "until_position"}

    def test_finds_a_changed_event_of_ones_own(self, trail: Trail, practice: tuple[Clinic, Caller]) -> None:
        """By computing its digest anew."""
        position = self.place(trail, practice[0], own=True)
        self.damage(trail, "UPDATE audit_event SET outcome = 'better' WHERE id = {}", position)
        found = practice[1].get("/audit/verify", seals=1000).get_json()
        assert (found["first_problem"]["kind"], found["first_problem"]["position"]) == ("changed", position)

    def test_finds_a_seal_that_another_key_signed(self, trail: Trail, practice: tuple[Clinic, Caller]) -> None:
        """Or that was changed."""
        with trail.connect() as connection:
            connection.execute("UPDATE audit_seal SET sealed_at = now() WHERE number = 2")
        found = practice[1].get("/audit/verify", seals=1000).get_json()
        assert found["first_problem"]["kind"] == "bad signature"

    def test_is_right_about_a_trail_that_has_no_seal_yet(self, trail: Trail) -> None:
        """Nothing is proved, and nothing is wrong."""
        found = Clinic(trail.app).user(Role.AUDITOR).get("/audit/verify").get_json()
        assert (found["whole"], found["seals"], found["last_position"]) == (True, 0, None)
