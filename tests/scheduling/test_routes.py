"""Diaries over HTTP: what the desk, clinicians and patients can do, see, and are refused."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from medical.audit.models import AuditEvent
from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import STORED, Allocation, Appointment, Status
from medical.scheduling.policy import MOVES, RELEASING, Act
from tests.clinic import Caller, Clinic, day_after

WAY_TO = {
    Status.REQUESTED: [],
    Status.BOOKED: [],
    Status.ARRIVED: ["arrive"],
    Status.CHECKED_IN: ["check-in"],
    Status.IN_PROGRESS: ["check-in", "start"],
    Status.FULFILLED: ["check-in", "complete"],
    Status.NO_SHOW: ["no-show"],
    Status.CANCELLED: ["cancel"],
    Status.ENTERED_IN_ERROR: ["enter-in-error"],
}
ON_THE_DAY = {"arrive", "check-in", "no-show"}
WANTS_A_REASON = {"cancel", "decline", "reinstate", "enter-in-error"}
NOBODY = str(uuid4())


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


class Practice:
    """A clinician who works from nine to five in UTC, a kind of visit, and the desk."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.desk = clinic.user(Role.RECEPTIONIST)
        self.clinician = clinic.clinician(time_zone="UTC")
        self.hours = clinic.hours(self.clinician)
        self.kind = clinic.appointment_type()
        self.patient = clinic.patient()

    def body(self, at: str = "09:00", day: int = 3, **given: Any) -> dict[str, Any]:
        """A booking."""
        return self.clinic.booking(self.patient, self.clinician, self.kind, day_after(day, at)) | given

    def book(self, at: str = "09:00", day: int = 3, **given: Any) -> TestResponse:
        """The desk books."""
        return self.desk.post("/appointments", self.body(at, day, **given))

    def booked(self, at: str = "09:00", day: int = 3, **given: Any) -> dict[str, Any]:
        """An appointment that the desk has booked."""
        answer = self.book(at, day, **given)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def act(self, appointment: dict[str, Any], call: str, caller: Caller | None = None, **headers: str) -> TestResponse:
        """A call on an appointment, with a body where it takes one, at the end of its time where it is of the day."""
        caller, path = caller or self.clinic.admin, f"/appointments/{appointment['id']}/{call}"
        if call in ON_THE_DAY:
            with self.clinic.at(appointment.get("end", day_after(3))) as then:
                return then(caller).post(path, **headers)
        body = {"reason": "flu"} if call in WANTS_A_REASON else None
        return caller.post(path, {"start": day_after(3, "16:00")} if call == "reschedule" else body, **headers)

    def in_status(self, status: Status, at: str = "09:00") -> dict[str, Any]:
        """An appointment that has come to this status."""
        given = {}
        if status is Status.REQUESTED:
            given["appointment_type_id"] = self.clinic.appointment_type(needs_approval=True)["id"]
        appointment = self.booked(at, **given)
        for call in WAY_TO[status]:
            answer = self.act(appointment, call)
            assert answer.status_code == 200, answer.text
            appointment = answer.get_json()
        return appointment

    def free(self, day: int = 3) -> list[str]:
        """The free times of a day."""
        return [start[11:16] for start in self.clinic.free(self.kind, day_after(day), day_after(day + 1))]

    def read(self, appointment: dict[str, Any]) -> dict[str, Any]:
        """The appointment as it is now."""
        found: dict[str, Any] = self.clinic.admin.get(f"/appointments/{appointment['id']}").get_json()
        return found


@pytest.fixture
def practice(clinic: Clinic) -> Practice:
    """A practice with nothing booked."""
    return Practice(clinic)


@pytest.fixture
def trail(clinic: Clinic) -> Callable[[TestResponse], list[AuditEvent]]:
    """What the trail says of the request that was answered."""

    def read(answer: TestResponse) -> list[AuditEvent]:
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            query = select(AuditEvent).where(AuditEvent.request_id == answer.headers["X-Request-ID"])
            events = list(db.session.scalars(query.order_by(AuditEvent.patient_id)))
            db.session.expunge_all()
            return events

    return read


class TestAppointmentTypes:
    """Kinds of visits."""

    def test_the_grid_is_the_duration_unless_said_otherwise(self, clinic: Clinic) -> None:
        body = {"name": "Check-up", "duration_minutes": 20}
        made = clinic.admin.post("/appointment-types", body)
        assert made.status_code == 201
        expected = {"grid_minutes": 20, "min_notice_minutes": 0, "horizon_days": 365, "version": 1}
        simple = {
            "cancellation_cutoff_minutes": 0,
            "needs_approval": False,
            "max_per_day": None,
            "max_per_patient": None,
            "buffer_before_minutes": 0,
            "buffer_after_minutes": 0,
            "needs_room": False,
            "needs_device_kinds": [],
            "other_durations_minutes": [],
            "group_capacity": None,
        }
        assert made.get_json() == body | expected | simple | {"id": made.get_json()["id"]}
        assert clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()

    def test_a_name_is_given_once(self, clinic: Clinic, other_clinic: Clinic) -> None:
        clinic.appointment_type(name="Check-up")
        refused = clinic.admin.post("/appointment-types", {"name": "Check-up", "duration_minutes": 30})
        assert code_of(refused) == (409, "appointment_type_exists")
        assert other_clinic.appointment_type(name="Check-up")["name"] == "Check-up"

    def test_are_listed_by_name(self, clinic: Clinic) -> None:
        for name in ("Surgery", "Check-up", "Flu shot"):
            clinic.appointment_type(name=name)
        assert names_in_pages(clinic.admin, "/appointment-types", "name") == ["Check-up", "Flu shot", "Surgery"]

    @pytest.mark.parametrize("role", [Role.CLINICIAN, Role.NURSE, Role.RECEPTIONIST, Role.PATIENT])
    def test_are_added_by_the_administrator_alone(self, clinic: Clinic, role: Role) -> None:
        refused = clinic.user(role).post("/appointment-types", {"name": "Check-up", "duration_minutes": 30})
        assert code_of(refused) == (403, "forbidden")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"duration_minutes": 0},
            {"duration_minutes": 1441},
            {"grid_minutes": 0},
            {"horizon_days": 551},
            {"cancellation_cutoff_minutes": -1},
            {"max_per_day": 0},
            {"max_per_patient": 0},
            {"name": " "},
        ],
    )
    def test_a_wrong_one_is_told_where(self, clinic: Clinic, wrong: dict[str, Any]) -> None:
        refused = clinic.admin.post("/appointment-types", {"name": "Check-up", "duration_minutes": 30} | wrong)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [f"/{name}" for name in wrong]

    def test_one_of_another_organisation_is_unknown(self, clinic: Clinic, other_clinic: Clinic) -> None:
        kind = other_clinic.appointment_type()
        assert code_of(clinic.admin.get(f"/appointment-types/{kind['id']}")) == (404, "not_found")


def names_in_pages(caller: Caller, path: str, field: str, **query: Any) -> list[Any]:
    """One field of all items, read two at a time."""
    found, cursor = [], None
    while True:
        page = caller.get(path, limit=2, cursor=cursor, **query).get_json()
        found += [item[field] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found


class TestHours:
    """Weekly hours of clinicians."""

    def test_are_in_the_clinicians_zone_and_place_unless_said_otherwise(self, clinic: Clinic) -> None:
        site, other = clinic.location(), clinic.location()
        clinician = clinic.clinician(time_zone="Asia/Kathmandu", location_id=site["id"])
        plain = clinic.hours(clinician)
        given = clinic.hours(clinician, time_zone="UTC", location_id=other["id"])
        assert (plain["time_zone"], plain["location_id"]) == ("Asia/Kathmandu", site["id"])
        assert (given["time_zone"], given["location_id"]) == ("UTC", other["id"])

    def test_are_answered_as_they_were_given(self, clinic: Clinic) -> None:
        clinician, kind, site = clinic.clinician(), clinic.appointment_type(), clinic.location()
        body = {
            "clinician_id": clinician.id,
            "weekdays": [5, 1],
            "start_time": "22:00",
            "end_time": "06:00",
            "time_zone": "Europe/Paris",
            "location_id": site["id"],
            "valid_from": "2027-01-01",
            "valid_until": "2027-12-31",
            "every_weeks": 2,
            "weeks_of_month": [1, -1],
            "appointment_type_ids": [kind["id"]],
        }
        made = clinic.admin.post("/availabilities", body)
        assert made.status_code == 201
        added = {"id": made.get_json()["id"], "version": 1, "first_week_on": "2026-12-28"}
        assert made.get_json() == body | added
        assert clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()

    def test_null_removes_what_may_be_absent(self, clinic: Clinic) -> None:
        kind, site, clinician = clinic.appointment_type(), clinic.location(), clinic.clinician()
        full = {
            "location_id": site["id"],
            "valid_from": "2027-01-01",
            "valid_until": "2027-12-31",
            "appointment_type_ids": [kind["id"]],
        }
        hours = clinic.hours(clinician, **full)
        changed = clinic.admin.patch(f"/availabilities/{hours['id']}", dict.fromkeys(full))
        assert changed.status_code == 200
        assert changed.get_json() == hours | dict.fromkeys(full) | {"version": 2}

    def test_only_what_is_sent_changes(self, practice: Practice) -> None:
        changed = practice.desk.patch(
            f"/availabilities/{practice.hours['id']}", {"end_time": "10:00", "weekdays": [1, 2]}
        )
        assert changed.get_json() == practice.hours | {"end_time": "10:00", "weekdays": [1, 2], "version": 2}

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"time_zone": None}, "/time_zone"),
            ({"start_time": "9:00"}, "/start_time"),
            ({"end_time": "24:00"}, "/end_time"),
            ({"weekdays": []}, "/weekdays"),
            ({"weekdays": [1, 1]}, "/weekdays"),
            ({"weekdays": [8]}, "/weekdays/0"),
            ({"every_weeks": 0}, "/every_weeks"),
            ({"valid_from": "2027-02-02", "valid_until": "2027-02-01"}, "/valid_until"),
            ({"valid_until": "2026-12-31"}, "/valid_until"),
            ({"clinician_id": NOBODY}, "/clinician_id"),
        ],
    )
    def test_a_wrong_change_is_told_where(self, clinic: Clinic, changes: dict[str, Any], pointer: str) -> None:
        hours = clinic.hours(clinic.clinician(), valid_from="2027-01-01")
        refused = clinic.admin.patch(f"/availabilities/{hours['id']}", changes)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [pointer]
        assert clinic.admin.get(f"/availabilities/{hours['id']}").get_json() == hours

    @pytest.mark.parametrize("field", ["location_id", "appointment_type_ids"])
    def test_an_unknown_place_or_kind_is_not_found(self, practice: Practice, field: str) -> None:
        unknown = {field: [NOBODY] if field.endswith("s") else NOBODY}
        body = {"clinician_id": practice.clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        assert code_of(practice.desk.post("/availabilities", body | unknown)) == (404, "not_found")
        path = f"/availabilities/{practice.hours['id']}"
        assert code_of(practice.desk.patch(path, unknown)) == (404, "not_found")
        assert practice.desk.get(path).get_json() == practice.hours

    def test_hours_that_are_not_there_are_not_found(self, practice: Practice, other_clinic: Clinic) -> None:
        foreign = other_clinic.hours(other_clinic.clinician())
        for hours_id in (NOBODY, foreign["id"]):
            path = f"/availabilities/{hours_id}"
            for answer in (
                practice.desk.get(path),
                practice.desk.patch(path, {"every_weeks": 2}),
                practice.desk.delete(path),
            ):
                assert code_of(answer) == (404, "not_found")
        assert other_clinic.admin.get(f"/availabilities/{foreign['id']}").get_json() == foreign
        body = {"clinician_id": NOBODY, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        assert code_of(practice.desk.post("/availabilities", body)) == (404, "not_found")

    def test_removing_them_closes_the_diary_and_keeps_what_is_booked(self, practice: Practice) -> None:
        appointment = practice.booked()
        assert len(practice.free()) == 15
        assert practice.desk.delete(f"/availabilities/{practice.hours['id']}").status_code == 204
        assert practice.free() == []
        assert practice.read(appointment) == appointment
        assert code_of(practice.book("10:00")) == (409, "outside_availability")

    def test_clinicians_set_their_own_only(self, practice: Practice) -> None:
        own, colleague = practice.clinician, practice.clinic.clinician()
        theirs = practice.clinic.hours(colleague)
        body = {"weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        made = own.post("/availabilities", body | {"clinician_id": own.id})
        assert made.status_code == 201
        assert own.patch(f"/availabilities/{made.get_json()['id']}", {"end_time": "11:00"}).status_code == 200
        assert own.delete(f"/availabilities/{made.get_json()['id']}").status_code == 204
        path = f"/availabilities/{theirs['id']}"
        for refused in (
            own.post("/availabilities", body | {"clinician_id": colleague.id}),
            own.patch(path, {"end_time": "11:00"}),
            own.delete(path),
        ):
            assert code_of(refused) == (403, "not_your_diary")
        assert own.get(path).get_json() == theirs

    @pytest.mark.parametrize("role", [Role.NURSE, Role.PATIENT, Role.AUDITOR])
    def test_others_do_not_set_them(self, practice: Practice, role: Role) -> None:
        caller, path = practice.clinic.user(role), f"/availabilities/{practice.hours['id']}"
        body = {"clinician_id": practice.clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        for refused in (
            caller.post("/availabilities", body),
            caller.patch(path, {"every_weeks": 2}),
            caller.delete(path),
        ):
            assert code_of(refused) == (403, "forbidden")

    def test_are_listed_by_clinician(self, practice: Practice) -> None:
        other = practice.clinic.clinician()
        more = [practice.clinic.hours(whom)["id"] for whom in (other, practice.clinician, other)]
        listed = names_in_pages(practice.desk, "/availabilities", "id")
        by_clinician = {practice.clinician.id: [practice.hours["id"], more[1]], other.id: [more[0], more[2]]}
        assert listed == [one for clinician in sorted(by_clinician) for one in by_clinician[clinician]]
        assert names_in_pages(practice.desk, "/availabilities", "id", clinician_id=other.id) == [more[0], more[2]]

    def test_a_stale_change_is_refused(self, practice: Practice) -> None:
        path = f"/availabilities/{practice.hours['id']}"
        first = practice.desk.get(path).headers["ETag"]
        assert practice.desk.patch(path, {"end_time": "16:00"}, If_Match=first).headers["ETag"] == '"2"'
        assert code_of(practice.desk.patch(path, {"end_time": "15:00"}, If_Match=first)) == (412, "stale")
        assert code_of(practice.desk.delete(path, If_Match=first)) == (412, "stale")
        assert practice.desk.get(path).get_json()["end_time"] == "16:00"


class TestBook:
    """A time with a clinician for a patient."""

    def test_answers_with_the_appointment_and_takes_the_time(self, clinic: Clinic) -> None:
        site, patient, kind = clinic.location(), clinic.patient(), clinic.appointment_type()
        clinician = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(clinician, end_time="10:00")
        body = clinic.booking(patient, clinician, kind, day_after(3, "11:00", "+02:00")) | {"reason": "cough"}
        booked = clinic.admin.post("/appointments", body)
        assert booked.status_code == 201
        appointment = booked.get_json()
        assert appointment == body | {
            "id": appointment["id"],
            "status": "booked",
            "location_id": site["id"],
            "start": day_after(3, "09:00"),
            "end": day_after(3, "09:30"),
            "status_reason": None,
            "sensitive": False,
            "overbooked": False,
            "cancelled_late": False,
            "queue_number": None,
            "with_clinician_ids": [],
            "session_id": None,
            "version": 1,
        }
        assert booked.headers["ETag"] == '"1"'
        assert clinic.admin.get(booked.headers["Location"]).get_json() == appointment
        assert clinic.free(kind, day_after(3), day_after(4)) == [day_after(3, "09:30")]

    @pytest.mark.parametrize("at", ["09:00", "08:45", "09:15", "09:29", "08:31"])
    def test_a_time_that_somebody_has_is_taken(self, practice: Practice, at: str) -> None:
        practice.clinic.hours(practice.clinician, start_time="08:00", end_time="10:00")
        practice.booked("09:00")
        other = practice.clinic.patient()
        assert code_of(practice.book(at, patient_id=other["id"])) == (409, "slot_taken")

    @pytest.mark.parametrize("at", ["08:30", "09:30"])
    def test_the_times_that_touch_it_are_not(self, practice: Practice, at: str) -> None:
        practice.clinic.hours(practice.clinician, start_time="08:00", end_time="10:00")
        practice.booked("09:00")
        assert practice.book(at).status_code == 201

    def test_a_patient_is_with_one_clinician_at_a_time(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        practice.booked("09:00")
        assert code_of(practice.book("09:15", clinician_id=colleague.id)) == (409, "patient_busy")
        assert practice.book("09:30", clinician_id=colleague.id).status_code == 201

    @pytest.mark.parametrize("at", ["08:45", "16:31", "17:00", "03:00"])
    def test_a_time_not_wholly_within_hours_is_outside(self, practice: Practice, at: str) -> None:
        assert code_of(practice.book(at)) == (409, "outside_availability")

    @pytest.mark.parametrize("at", ["09:01", "12:17", "16:30"])
    def test_a_time_off_the_grid_but_within_hours_is_booked(self, practice: Practice, at: str) -> None:
        assert practice.booked(at)["start"] == day_after(3, at)

    def test_a_time_across_two_openings_that_touch_is_booked(self, practice: Practice) -> None:
        practice.clinic.hours(practice.clinician, start_time="17:00", end_time="18:00")
        assert practice.book("16:45").status_code == 201

    def test_hours_for_another_kind_of_visit_do_not_count(self, practice: Practice) -> None:
        other = practice.clinic.appointment_type()
        path = f"/availabilities/{practice.hours['id']}"
        assert practice.desk.patch(path, {"appointment_type_ids": [other["id"]]}).status_code == 200
        assert code_of(practice.book()) == (409, "outside_availability")
        assert practice.book(appointment_type_id=other["id"]).status_code == 201

    def test_the_past_is_too_soon(self, practice: Practice) -> None:
        assert code_of(practice.book(day=-1)) == (409, "too_soon")

    def test_nearer_than_the_notice_is_too_soon(self, practice: Practice) -> None:
        kind = practice.clinic.appointment_type(min_notice_minutes=4 * 24 * 60)
        assert code_of(practice.book(appointment_type_id=kind["id"])) == (409, "too_soon")
        assert practice.book(day=5, appointment_type_id=kind["id"]).status_code == 201

    def test_farther_than_the_horizon_is_beyond(self, practice: Practice) -> None:
        kind = practice.clinic.appointment_type(horizon_days=5)
        assert code_of(practice.book(day=7, appointment_type_id=kind["id"])) == (409, "beyond_horizon")
        assert practice.book(day=4, appointment_type_id=kind["id"]).status_code == 201

    @pytest.mark.parametrize("field", ["patient_id", "clinician_id", "appointment_type_id"])
    def test_who_or_what_is_not_there_is_not_found(self, practice: Practice, other_clinic: Clinic, field: str) -> None:
        foreign = {
            "patient_id": other_clinic.patient()["id"],
            "clinician_id": other_clinic.clinician().id,
            "appointment_type_id": other_clinic.appointment_type()["id"],
        }
        for unknown in (NOBODY, foreign[field]):
            assert code_of(practice.desk.post("/appointments", practice.body() | {field: unknown})) == (
                404,
                "not_found",
            )
        assert practice.book().status_code == 201

    def test_nobody_is_booked_with_a_clinician_whose_account_is_closed(self, practice: Practice) -> None:
        assert practice.clinic.admin.post(f"/users/{practice.clinician.id}/deactivate").status_code == 200
        assert code_of(practice.book()) == (404, "not_found")

    def test_a_refusal_leaves_nothing_behind(self, practice: Practice) -> None:
        practice.booked("09:00")
        assert practice.book("09:15").status_code == 409
        assert len(practice.desk.get("/appointments").get_json()["items"]) == 1
        assert practice.free() == [f"{9 + half // 2:02}:{half % 2 * 30:02}" for half in range(1, 16)]

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"start": "2027-01-01T09:00:00"}, "/start"),
            ({"start": None}, "/start"),
            ({"patient_id": "nobody"}, "/patient_id"),
            ({"reason": "  "}, "/reason"),
            ({"room": 3}, "/room"),
        ],
    )
    def test_a_wrong_body_is_told_where(self, practice: Practice, wrong: dict[str, Any], pointer: str) -> None:
        refused = practice.book(**wrong)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [pointer]

    def test_a_repeated_key_books_once(self, practice: Practice) -> None:
        key = str(uuid4())
        first = practice.desk.post("/appointments", practice.body(), Idempotency_Key=key)
        again = practice.desk.post("/appointments", practice.body(), Idempotency_Key=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.get_json() == first.get_json()
        assert again.headers["Idempotency-Replayed"] == "true"
        other = practice.desk.post("/appointments", practice.body("10:00"), Idempotency_Key=key)
        assert code_of(other) == (422, "idempotency_key_reused")

    def test_a_repeated_key_is_refused_as_before_though_the_time_is_free_by_now(self, practice: Practice) -> None:
        taken, key = practice.booked(), str(uuid4())
        body = practice.body(patient_id=practice.clinic.patient()["id"])
        assert code_of(practice.desk.post("/appointments", body, Idempotency_Key=key)) == (409, "slot_taken")
        assert practice.act(taken, "cancel").status_code == 200
        assert code_of(practice.desk.post("/appointments", body, Idempotency_Key=key)) == (409, "slot_taken")
        assert practice.desk.post("/appointments", body, Idempotency_Key=str(uuid4())).status_code == 201


class TestWhoBooks:
    """The desk books everybody, clinicians their own diary, patients themselves."""

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.NURSE, Role.RECEPTIONIST])
    def test_the_desk_books_everybody(self, practice: Practice, role: Role) -> None:
        assert practice.clinic.user(role).post("/appointments", practice.body()).status_code == 201

    def test_clinicians_book_into_their_own_diary(self, practice: Practice) -> None:
        assert practice.clinician.post("/appointments", practice.body()).status_code == 201
        refused = practice.clinic.clinician().post("/appointments", practice.body("10:00"))
        assert code_of(refused) == (403, "not_your_diary")
        assert practice.book("10:00").status_code == 201

    def test_patients_book_themselves(self, practice: Practice) -> None:
        own, caller = practice.clinic.patient_with_account()
        assert caller.post("/appointments", practice.body(patient_id=own["id"])).status_code == 201
        refused = caller.post("/appointments", practice.body("10:00"))
        assert code_of(refused) == (404, "not_found")
        assert practice.book("10:00").status_code == 201

    @pytest.mark.parametrize("role", [Role.AUDITOR, Role.SERVICE])
    def test_others_do_not_book(self, practice: Practice, role: Role) -> None:
        assert code_of(practice.clinic.user(role).post("/appointments", practice.body())) == (403, "forbidden")

    def test_a_guest_does_not_book(self, practice: Practice) -> None:
        assert code_of(Caller(practice.clinic.app).post("/appointments", practice.body())) == (401, "unauthenticated")


class TestCancel:
    """An appointment is called off."""

    def test_the_time_is_free_again(self, practice: Practice) -> None:
        appointment = practice.booked("09:00")
        assert "09:00" not in practice.free()
        cancelled = practice.act(appointment, "cancel", practice.desk)
        assert cancelled.status_code == 200
        assert cancelled.get_json() == appointment | {"status": "cancelled", "status_reason": "flu", "version": 2}
        assert "09:00" in practice.free()
        assert practice.book("09:00").status_code == 201

    def test_twice_is_refused(self, practice: Practice) -> None:
        appointment = practice.in_status(Status.CANCELLED)
        assert code_of(practice.act(appointment, "cancel")) == (409, "invalid_transition")

    @pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": None}])
    def test_wants_a_reason(self, practice: Practice, body: dict[str, Any]) -> None:
        appointment = practice.booked()
        refused = practice.desk.post(f"/appointments/{appointment['id']}/cancel", body)
        assert code_of(refused) == (422, "invalid_request")
        assert practice.read(appointment)["status"] == "booked"


class TestReschedule:
    """An appointment gets another time."""

    def move(
        self, practice: Practice, appointment: dict[str, Any], at: str, day: int = 3, **given: Any
    ) -> TestResponse:
        """The desk gives it another time."""
        body = {"start": day_after(day, at)} | given
        return practice.desk.post(f"/appointments/{appointment['id']}/reschedule", body)

    def test_keeps_its_id_and_frees_the_old_time(self, practice: Practice) -> None:
        appointment = practice.booked("09:00", reason="cough")
        moved = self.move(practice, appointment, "14:00", reason="the bus")
        assert moved.status_code == 200
        new_time = {"start": day_after(3, "14:00"), "end": day_after(3, "14:30")}
        assert moved.get_json() == appointment | new_time | {"status_reason": "the bus", "version": 2}
        free = practice.free()
        assert ("09:00" in free, "14:00" in free) == (True, False)

    @pytest.mark.parametrize("at", ["09:15", "09:45", "09:30"])
    def test_may_overlap_its_own_old_time(self, practice: Practice, at: str) -> None:
        appointment = practice.booked("09:30")
        assert self.move(practice, appointment, at).status_code == 200
        assert practice.read(appointment)["start"] == day_after(3, at)

    def test_goes_to_another_clinician(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        appointment = practice.booked("09:00")
        moved = self.move(practice, appointment, "09:00", clinician_id=colleague.id)
        assert (moved.status_code, moved.get_json()["clinician_id"]) == (200, colleague.id)
        assert practice.book("09:00", patient_id=practice.clinic.patient()["id"]).status_code == 201
        other = practice.book("09:15", clinician_id=colleague.id, patient_id=practice.clinic.patient()["id"])
        assert code_of(other) == (409, "slot_taken")

    @pytest.mark.parametrize(
        ("to", "refusal"),
        [
            ({"at": "11:00"}, (409, "slot_taken")),
            ({"at": "12:15"}, (409, "patient_busy")),
            ({"at": "17:30"}, (409, "outside_availability")),
            ({"at": "09:00", "day": -2}, (409, "too_soon")),
            ({"at": "09:00", "day": 600}, (409, "beyond_horizon")),
            ({"at": "10:00", "clinician_id": NOBODY}, (404, "not_found")),
        ],
    )
    def test_refused_it_stays_where_it_was(
        self, practice: Practice, to: dict[str, Any], refusal: tuple[int, str]
    ) -> None:
        clinic, colleague = practice.clinic, practice.clinic.clinician(time_zone="UTC")
        clinic.hours(colleague)
        appointment = practice.booked("09:00")
        practice.booked("11:00", patient_id=clinic.patient()["id"])
        practice.booked("12:00", clinician_id=colleague.id)
        assert code_of(self.move(practice, appointment, **to)) == refusal
        assert practice.read(appointment) == appointment
        assert code_of(practice.book("09:15", patient_id=clinic.patient()["id"])) == (409, "slot_taken")

    @pytest.mark.parametrize("status", [status for status in STORED if status is not Status.BOOKED])
    def test_only_what_is_booked_moves(self, practice: Practice, status: Status) -> None:
        appointment = practice.in_status(status)
        assert code_of(self.move(practice, appointment, "14:00")) == (409, "invalid_transition")
        assert practice.read(appointment) == appointment

    def test_clinicians_give_nothing_to_colleagues(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        appointment = practice.booked()
        path, start = f"/appointments/{appointment['id']}/reschedule", day_after(3, "10:00")
        refused = practice.clinician.post(path, {"start": start, "clinician_id": colleague.id})
        assert code_of(refused) == (403, "not_your_diary")
        assert practice.clinician.post(path, {"start": start}).status_code == 200

    def test_patients_move_their_own(self, practice: Practice) -> None:
        own, caller = practice.clinic.patient_with_account()
        mine, other = practice.booked("09:00", patient_id=own["id"]), practice.booked("10:00")
        moved = caller.post(f"/appointments/{mine['id']}/reschedule", {"start": day_after(3, "11:00")})
        assert moved.status_code == 200
        refused = caller.post(f"/appointments/{other['id']}/reschedule", {"start": day_after(3, "12:00")})
        assert code_of(refused) == (404, "not_found")


class TestMoves:
    """From which status an appointment can go to which: the table, and nothing else."""

    @pytest.mark.parametrize("act", list(Act))
    def test_the_table_of_states(self, practice: Practice, act: Act) -> None:
        """Each act, on an appointment in each status."""
        sources, to = MOVES[act]
        for n, status in enumerate(STORED):
            appointment = practice.in_status(status, f"{9 + n // 2:02}:{n % 2 * 30:02}")
            answer = practice.act(appointment, act)
            if status in sources:
                assert (answer.status_code, answer.get_json()["status"]) == (200, to)
                assert answer.get_json()["version"] == appointment["version"] + 1
            else:
                assert code_of(answer) == (409, "invalid_transition")
                assert practice.read(appointment) == appointment

    def test_the_table_itself(self) -> None:
        """Written here a second time, so that it does not change unnoticed."""
        assert {f"{act}: {status} > {to}" for act, (sources, to) in MOVES.items() for status in sources} == {
            "approve: requested > booked",
            "decline: requested > cancelled",
            "reschedule: booked > booked",
            "arrive: booked > arrived",
            "check-in: booked > checked_in",
            "check-in: arrived > checked_in",
            "start: checked_in > in_progress",
            "complete: arrived > fulfilled",
            "complete: checked_in > fulfilled",
            "complete: in_progress > fulfilled",
            "no-show: booked > no_show",
            "cancel: requested > cancelled",
            "cancel: booked > cancelled",
            "cancel: arrived > cancelled",
            "cancel: checked_in > cancelled",
            "reinstate: cancelled > booked",
            "reinstate: no_show > booked",
            "enter-in-error: booked > entered_in_error",
            "enter-in-error: fulfilled > entered_in_error",
            "enter-in-error: no_show > entered_in_error",
        }

    @pytest.mark.parametrize("status", STORED)
    def test_its_time_is_free_only_when_it_is_off(self, practice: Practice, status: Status) -> None:
        practice.in_status(status)
        other = practice.book(patient_id=practice.clinic.patient()["id"])
        assert other.status_code == (201 if status in RELEASING else 409)

    @pytest.mark.parametrize("call", list(Act))
    def test_what_is_not_there_does_not_move(self, practice: Practice, other_clinic: Clinic, call: str) -> None:
        foreign = Practice(other_clinic).booked()
        for appointment in ({"id": NOBODY}, foreign):
            assert code_of(practice.act(appointment, call)) == (404, "not_found")

    @pytest.mark.parametrize(
        ("role", "refused"),
        [
            (Role.RECEPTIONIST, {Act.START, Act.COMPLETE}),
            (Role.NURSE, set()),
            (Role.PATIENT, set(Act) - {Act.RESCHEDULE, Act.ARRIVE, Act.CHECK_IN, Act.CANCEL}),
            (Role.AUDITOR, set(Act)),
        ],
    )
    def test_each_call_needs_its_permission(self, practice: Practice, role: Role, refused: set[Act]) -> None:
        practice.patient, own = practice.clinic.patient_with_account()
        caller = own if role is Role.PATIENT else practice.clinic.user(role)
        ways = {
            Act.START: Status.CHECKED_IN,
            Act.COMPLETE: Status.CHECKED_IN,
            Act.APPROVE: Status.REQUESTED,
            Act.DECLINE: Status.REQUESTED,
            Act.REINSTATE: Status.CANCELLED,
        }
        for n, call in enumerate(act for act in Act if act is not Act.RESCHEDULE):
            appointment = practice.in_status(ways.get(call, Status.BOOKED), f"{9 + n // 2:02}:{n % 2 * 30:02}")
            answer = practice.act(appointment, call, caller)
            assert answer.status_code == (403 if call in refused else 200), call

    def test_patients_neither_start_complete_nor_miss(self, practice: Practice) -> None:
        own, caller = practice.clinic.patient_with_account()
        appointment = practice.booked(patient_id=own["id"])
        for call in ("start", "complete", "no-show"):
            assert code_of(practice.act(appointment, call, caller)) == (403, "forbidden")


class TestHistory:
    """What became of an appointment."""

    def test_says_who_when_what_and_why_in_order(self, practice: Practice) -> None:
        before = datetime.now(UTC)
        appointment = practice.booked("09:00")
        path = f"/appointments/{appointment['id']}"
        moved = {"start": day_after(3, "10:00"), "reason": "the bus"}
        assert practice.clinician.post(f"{path}/reschedule", moved).status_code == 200
        assert practice.act(appointment, "cancel", practice.desk).status_code == 200
        events = practice.desk.get(f"{path}/history").get_json()["items"]
        told = [
            (event["version"], event["status"], event["start"], event["reason"], event["actor_id"]) for event in events
        ]
        assert told == [
            (1, "booked", day_after(3, "09:00"), None, practice.desk.id),
            (2, "booked", day_after(3, "10:00"), "the bus", practice.clinician.id),
            (3, "cancelled", day_after(3, "10:00"), "flu", practice.desk.id),
        ]
        moments = [before, *(datetime.fromisoformat(event["occurred_at"]) for event in events), datetime.now(UTC)]
        assert all(earlier < later for earlier, later in pairwise(moments))

    def test_is_written_for_raw_sql_too(self, practice: Practice) -> None:
        appointment = practice.booked()
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            change = update(Appointment).where(Appointment.id == UUID(appointment["id"]))
            db.session.execute(change.values(status="fulfilled", version=2))
            db.session.commit()
        events = practice.desk.get(f"/appointments/{appointment['id']}/history").get_json()["items"]
        assert [(event["status"], event["actor_id"]) for event in events] == [
            ("booked", practice.desk.id),
            ("fulfilled", None),
        ]

    def test_is_read_in_pages(self, practice: Practice) -> None:
        appointment = practice.in_status(Status.FULFILLED)
        path = f"/appointments/{appointment['id']}/history"
        assert names_in_pages(practice.desk, path, "status") == ["booked", "checked_in", "fulfilled"]

    @pytest.mark.parametrize("key", ["[99999999999]", "[0]", '["1"]', "[]"])
    def test_a_made_up_cursor_is_refused(self, practice: Practice, key: str) -> None:
        path, cursor = f"/appointments/{practice.booked()['id']}/history", urlsafe_b64encode(key.encode()).decode()
        refused = practice.desk.get(path, cursor=cursor)
        assert code_of(refused) == (422, "invalid_request")

    def test_is_seen_by_whoever_sees_the_appointment(self, practice: Practice) -> None:
        path = f"/appointments/{practice.booked()['id']}/history"
        assert practice.clinician.get(path).status_code == 200
        assert code_of(practice.clinic.clinician().get(path)) == (404, "not_found")


class TestStale:
    """Whoever says what they saw is refused when it is no longer so."""

    @pytest.mark.parametrize("call", ["cancel", "reschedule", "check-in", "no-show"])
    def test_a_change_of_an_old_version(self, practice: Practice, call: str) -> None:
        appointment = practice.booked()
        etag = practice.desk.get(f"/appointments/{appointment['id']}").headers["ETag"]
        moved = practice.act(appointment, "reschedule", If_Match=etag)
        assert (moved.status_code, moved.headers["ETag"]) == (200, '"2"')
        assert code_of(practice.act(appointment, call, If_Match=etag)) == (412, "stale")
        assert practice.read(appointment) == moved.get_json()
        assert practice.act(moved.get_json(), call, If_Match='"2"').status_code == 200

    def test_start_and_complete(self, practice: Practice) -> None:
        appointment = practice.in_status(Status.CHECKED_IN)
        for call, version in (("start", '"2"'), ("complete", '"3"')):
            assert code_of(practice.act(appointment, call, If_Match='"1"')) == (412, "stale")
            assert practice.act(appointment, call, If_Match=version).status_code == 200

    @pytest.mark.parametrize("header", ["2", '"two"', '"1", "2"'])
    def test_an_etag_that_is_none(self, practice: Practice, header: str) -> None:
        refused = practice.act(practice.booked(), "cancel", If_Match=header)
        assert code_of(refused) == (422, "invalid_request")


class TestList:
    """Appointments by start, of those one may see."""

    @pytest.fixture
    def listed(self, practice: Practice) -> "Listed":
        """Some appointments."""
        return Listed(practice)

    def test_by_start_in_pages(self, listed: "Listed") -> None:
        assert names_in_pages(listed.practice.desk, "/appointments", "id") == [
            listed.early,
            listed.late,
            listed.other,
            listed.cancelled,
        ]

    def test_from_and_to(self, listed: "Listed") -> None:
        assert listed.ids(from_=day_after(3, "10:00"), to=day_after(4, "09:00")) == [listed.late]
        assert listed.ids(from_=day_after(3, "10:00"), to=day_after(4, "09:01")) == [listed.late, listed.other]
        assert listed.ids(from_=day_after(3, "10:01")) == [listed.other, listed.cancelled]
        assert listed.ids(to=day_after(3, "10:00")) == [listed.early]

    def test_of_a_clinician_a_patient_a_place(self, listed: "Listed") -> None:
        assert listed.ids(clinician_id=listed.colleague.id) == [listed.other]
        assert listed.ids(patient_id=listed.patient["id"]) == [listed.late, listed.cancelled]
        assert listed.ids(location_id=listed.site["id"]) == [listed.other]
        assert listed.ids(location_id=NOBODY) == []

    def test_of_a_status_or_several(self, listed: "Listed") -> None:
        assert listed.ids(status="cancelled") == [listed.cancelled]
        assert listed.ids(status=["cancelled", "checked_in"]) == [listed.early, listed.cancelled]

    def test_of_all_that_is_given(self, listed: "Listed") -> None:
        assert listed.ids(patient_id=listed.patient["id"], status="booked", to=day_after(4)) == [listed.late]

    def test_an_unknown_status_is_refused(self, listed: "Listed") -> None:
        assert code_of(listed.practice.desk.get("/appointments", status="late")) == (422, "invalid_request")

    def test_two_at_one_moment_have_an_order_too(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        both = [
            practice.booked()["id"],
            practice.booked(clinician_id=colleague.id, patient_id=practice.clinic.patient()["id"])["id"],
        ]
        assert names_in_pages(practice.desk, "/appointments", "id") == sorted(both)


class Listed:
    """Four appointments."""

    def __init__(self, practice: Practice) -> None:
        self.practice, clinic = practice, practice.clinic
        self.site = clinic.location()
        self.colleague = clinic.clinician(time_zone="UTC", location_id=self.site["id"])
        clinic.hours(self.colleague)
        self.patient = clinic.patient()
        cancelled = practice.booked(day=5, patient_id=self.patient["id"])
        self.other = practice.booked(day=4, clinician_id=self.colleague.id)["id"]
        self.late = practice.booked("10:00", patient_id=self.patient["id"])["id"]
        early = practice.booked("09:00")
        practice.act(early, "check-in")
        practice.act(cancelled, "cancel")
        self.early, self.cancelled = early["id"], cancelled["id"]

    def ids(self, **query: Any) -> list[str]:
        """What the desk finds."""
        return [one["id"] for one in self.practice.desk.get("/appointments", **query).get_json()["items"]]


class TestWhoSees:
    """The desk sees all, clinicians their diary, patients their own, others nothing."""

    def test_each_sees_theirs(self, practice: Practice, other_clinic: Clinic) -> None:
        own, patient = practice.clinic.patient_with_account()
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        mine, another = (
            practice.booked("09:00", patient_id=own["id"]),
            practice.booked("10:00", clinician_id=colleague.id),
        )
        both = {mine["id"], another["id"]}
        nurse, foreign_desk = practice.clinic.user(Role.NURSE), other_clinic.user(Role.RECEPTIONIST)
        for caller, seen in (
            (practice.desk, both),
            (nurse, both),
            (practice.clinician, {mine["id"]}),
            (colleague, {another["id"]}),
            (patient, {mine["id"]}),
            (practice.clinic.user(Role.PATIENT), set()),
            (foreign_desk, set()),
        ):
            assert {one["id"] for one in caller.get("/appointments").get_json()["items"]} == seen
            for one in both:
                assert caller.get(f"/appointments/{one}").status_code == (200 if one in seen else 404)

    def test_who_is_clinician_and_patient_sees_both_sides(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        body = {"user_id": patient.id, "specialty": "Cardiology", "time_zone": "UTC"}
        assert practice.clinic.admin.post("/clinicians", body).status_code == 201
        practice.clinic.hours(patient)
        as_patient = practice.booked("09:00", patient_id=own["id"])
        as_clinician = practice.booked("10:00", clinician_id=patient.id)
        practice.booked("11:00")
        seen = {one["id"] for one in patient.get("/appointments").get_json()["items"]}
        assert seen == {as_patient["id"], as_clinician["id"]}

    def test_a_clinician_does_not_touch_another_diary(self, practice: Practice) -> None:
        appointment, colleague = practice.booked(), practice.clinic.clinician()
        for call in ("cancel", "reschedule", "check-in", "no-show", "start", "complete"):
            assert code_of(practice.act(appointment, call, colleague)) == (404, "not_found")
        assert practice.read(appointment) == appointment


class TestTrail:
    """Who touched whose appointment is written down, whatever came of it."""

    def test_a_booking(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        booked = practice.book()
        told = [(event.action, event.outcome, str(event.actor_id), str(event.patient_id)) for event in trail(booked)]
        assert ("appointment.booked", "success", practice.desk.id, practice.patient["id"]) in told
        assert {event[3] for event in told} == {practice.patient["id"]}
        assert booked.get_json()["id"] in {str(event.entity_id) for event in trail(booked)}

    @pytest.mark.parametrize(
        ("call", "action"),
        [
            ("cancel", "appointment.cancelled"),
            ("reschedule", "appointment.rescheduled"),
            ("check-in", "appointment.checked-in"),
            ("no-show", "appointment.missed"),
        ],
    )
    def test_a_change(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]], call: str, action: str
    ) -> None:
        appointment = practice.booked()
        (event,) = trail(practice.act(appointment, call, practice.desk))
        assert (event.action, event.outcome, event.code) == (action, "success", None)
        assert (str(event.patient_id), str(event.entity_id)) == (practice.patient["id"], appointment["id"])
        assert (str(event.actor_id), event.actor_roles) == (practice.desk.id, ["receptionist"])

    def test_reading_one_and_its_history(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        appointment = practice.booked()
        for path, action in (("", "appointment.read"), ("/history", "appointment.history-read")):
            (event,) = trail(practice.clinician.get(f"/appointments/{appointment['id']}{path}"))
            assert (event.action, event.outcome) == (action, "success")
            assert (str(event.actor_id), str(event.patient_id)) == (practice.clinician.id, practice.patient["id"])

    def test_a_list_names_each_patient_on_it_once(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        other = practice.clinic.patient()
        practice.booked("09:00")
        practice.booked("10:00")
        practice.booked("11:00", patient_id=other["id"])
        practice.booked("12:00", patient_id=practice.clinic.patient()["id"])
        events = trail(practice.desk.get("/appointments", limit=3))
        assert [str(event.patient_id) for event in events] == sorted([practice.patient["id"], other["id"]])
        assert {(event.action, event.outcome) for event in events} == {("appointment.searched", "success")}

    def test_an_empty_list_names_nobody(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        (event,) = trail(practice.desk.get("/appointments"))
        assert (event.action, event.patient_id) == ("appointment.searched", None)

    def test_what_was_denied(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        stranger = practice.clinic.clinician()
        denied = trail(stranger.post("/appointments", practice.body()))
        assert {(event.action, event.outcome, event.code) for event in denied} == {
            ("appointment.booked", "denied", "not_your_diary")
        }
        assert {str(event.patient_id) for event in denied} == {practice.patient["id"]}
        auditor = practice.clinic.user(Role.AUDITOR)
        (forbidden,) = trail(auditor.post("/appointments", practice.body()))
        assert (forbidden.action, forbidden.outcome, forbidden.code) == ("appointment.booked", "denied", "forbidden")
        assert str(forbidden.actor_id) == auditor.id

    def test_what_was_hidden(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        appointment, stranger = practice.booked(), practice.clinic.clinician()
        (event,) = trail(stranger.get(f"/appointments/{appointment['id']}"))
        assert (event.action, event.outcome, event.code) == ("appointment.read", "refused", "not_found")
        assert (str(event.actor_id), str(event.entity_id)) == (stranger.id, appointment["id"])

    def test_hours(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        path = f"/availabilities/{practice.hours['id']}"
        for answer, action in (
            (practice.desk.patch(path, {"end_time": "16:00"}), "availability.updated"),
            (practice.desk.delete(path), "availability.deleted"),
        ):
            (event,) = trail(answer)
            assert (event.action, event.outcome, str(event.entity_id)) == (action, "success", practice.hours["id"])


class TestClaims:
    """Behind each live appointment stand two claims, behind others none."""

    def test_follow_the_appointment(self, practice: Practice) -> None:
        appointment = practice.booked("09:00")
        both = {practice.clinician.id, practice.patient["id"]}
        assert self.of(practice, appointment) == {(one, day_after(3, "09:00")) for one in both}
        practice.act(appointment, "reschedule")
        assert self.of(practice, appointment) == {(one, day_after(3, "16:00")) for one in both}
        practice.act(appointment, "cancel")
        assert self.of(practice, appointment) == set()

    def of(self, practice: Practice, appointment: dict[str, Any]) -> set[tuple[str, str]]:
        """Whose time is claimed for it, and when."""
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            query = select(Allocation).where(Allocation.appointment_id == UUID(appointment["id"]))
            return {(str(one.bookable_id), f"{one.start_at:%Y-%m-%dT%H:%M:%SZ}") for one in db.session.scalars(query)}
