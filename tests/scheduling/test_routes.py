"""Diaries over HTTP: what the desk, clinicians and patients can do, see, and are refused."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import STORED, Appointment, Status
from medical.scheduling.policy import MOVES, RELEASING, Act
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import NOBODY, Practice, code_of, names_in_pages


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
            "series_id": None,
            "occurrence": None,
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
