"""What becomes of appointments: when each act may happen, who may do it, and what it leaves behind."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import Appointment
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import Practice, code_of


def act_at(practice: Practice, moment: str, appointment: dict[str, Any], call: str, caller: Caller) -> TestResponse:
    """A call at another moment."""
    body = {"reason": "flu"} if call in ("cancel", "reinstate") else None
    with practice.clinic.at(moment) as then:
        return then(caller).post(f"/appointments/{appointment['id']}/{call}", body)


class TestNoShow:
    """Nobody is missed before they are late."""

    @pytest.mark.parametrize(
        ("moment", "answer"),
        [("09:09:59", (409, "too_early")), ("09:10:00", (200, "no_show"))],
    )
    def test_is_said_ten_minutes_after_the_start(
        self, practice: Practice, moment: str, answer: tuple[int, str]
    ) -> None:
        appointment = practice.booked("09:00")
        said = act_at(practice, f"{day_after(3)[:11]}{moment}Z", appointment, "no-show", practice.desk)
        assert (said.status_code, said.get_json().get("code", said.get_json()["status"])) == answer

    def test_the_rest_of_the_time_is_free(self, practice: Practice) -> None:
        appointment = practice.booked(
            "09:00", appointment_type_id=practice.clinic.appointment_type(duration_minutes=120)["id"]
        )
        moment = day_after(3, "09:20")
        assert act_at(practice, moment, appointment, "no-show", practice.desk).status_code == 200
        other = practice.body("09:30", patient_id=practice.clinic.patient()["id"])
        with practice.clinic.at(moment) as then:
            assert then(practice.desk).post("/appointments", other).status_code == 201


class TestArrival:
    """On the day of the appointment, by the clock of the place."""

    @pytest.mark.parametrize("call", ["arrive", "check-in"])
    @pytest.mark.parametrize(
        ("moment", "status"),
        [("T00:00", 200), ("T23:59", 200), ("before", 409), ("after", 409)],
    )
    def test_is_on_the_local_day(self, clinic: Clinic, call: str, moment: str, status: int) -> None:
        """Kathmandu's midnight is 18:15 in UTC."""
        practice = Practice(clinic)
        clinic.hours(practice.clinician, time_zone="Asia/Kathmandu", start_time="00:00", end_time="08:00")
        appointment = practice.booked("01:00")
        day = date.fromisoformat(day_after(3)[:10])
        at = {"before": f"{day - timedelta(days=1)}T23:59", "after": f"{day + timedelta(days=1)}T00:00"}
        said = act_at(practice, f"{at.get(moment, f'{day}{moment}')}:00+05:45", appointment, call, practice.desk)
        assert said.status_code == status, said.text
        if status == 409:
            assert code_of(said) == (409, "not_today")

    def test_comes_before_check_in_or_is_left_out(self, practice: Practice) -> None:
        arrived = practice.act(practice.booked("09:00"), "arrive").get_json()
        assert (arrived["status"], arrived["queue_number"]) == ("arrived", None)
        assert practice.act(arrived, "check-in").get_json()["queue_number"] == 1
        assert practice.act(practice.booked("10:00"), "check-in").get_json()["queue_number"] == 2


class TestQueue:
    """Numbers are drawn for each place and local day."""

    def test_each_place_and_day_counts_for_itself(self, practice: Practice) -> None:
        clinic, site = practice.clinic, practice.clinic.location()
        there = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(there)
        visits = [
            practice.booked("09:00"),
            practice.booked("10:00"),
            practice.booked("11:00", clinician_id=there.id),
            practice.booked("09:00", day=4),
        ]
        numbers = [practice.act(visit, "check-in").get_json()["queue_number"] for visit in visits]
        assert numbers == [1, 2, 1, 1]
        assert practice.read(visits[1])["queue_number"] == 2

    def test_a_refused_check_in_draws_none(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        assert practice.act(visit, "check-in").get_json()["queue_number"] == 1
        assert code_of(practice.act(visit, "check-in")) == (409, "invalid_transition")
        assert practice.act(practice.booked("10:00"), "check-in").get_json()["queue_number"] == 2


class TestCutoff:
    """Near to the start, patients call the desk."""

    @pytest.fixture
    def own(self, practice: Practice) -> Caller:
        """The patient's own sign-in; visits can be called off until two hours before."""
        practice.patient, caller = practice.clinic.patient_with_account()
        practice.kind = practice.clinic.appointment_type(cancellation_cutoff_minutes=120)
        return caller

    def test_until_then_patients_cancel_themselves(self, practice: Practice, own: Caller) -> None:
        visit = practice.booked("12:00")
        cancelled = act_at(practice, f"{day_after(3)[:11]}09:59:59Z", visit, "cancel", own)
        assert (cancelled.status_code, cancelled.get_json()["cancelled_late"]) == (200, False)

    def test_from_then_on_they_neither_cancel_nor_move_it(self, practice: Practice, own: Caller) -> None:
        visit = practice.booked("12:00")
        assert code_of(act_at(practice, day_after(3, "10:00"), visit, "cancel", own)) == (409, "cutoff_passed")
        with practice.clinic.at(day_after(3, "10:00")) as then:
            moved = then(own).post(f"/appointments/{visit['id']}/reschedule", {"start": day_after(4, "12:00")})
        assert code_of(moved) == (409, "cutoff_passed")
        assert practice.read(visit) == visit

    def test_who_may_does_and_it_is_marked_late(self, practice: Practice, own: Caller) -> None:
        visit = practice.booked("12:00")
        cancelled = act_at(practice, day_after(3, "10:00"), visit, "cancel", practice.desk)
        assert (cancelled.status_code, cancelled.get_json()["cancelled_late"]) == (200, True)

    def test_a_request_is_withdrawn_at_any_time(self, practice: Practice, own: Caller) -> None:
        practice.kind = practice.clinic.appointment_type(cancellation_cutoff_minutes=120, needs_approval=True)
        visit = practice.booked("12:00")
        assert act_at(practice, day_after(3, "11:59"), visit, "cancel", own).status_code == 200


class TestReinstate:
    """An appointment that was cancelled or missed by mistake is put back."""

    def test_takes_its_time_again(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.act(visit, "cancel")
        back = practice.act(visit, "reinstate")
        assert back.get_json() == visit | {"status_reason": "flu", "version": 3}
        other = practice.book("09:15", patient_id=practice.clinic.patient()["id"])
        assert code_of(other) == (409, "slot_taken")

    def test_is_refused_when_somebody_else_has_the_time(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        cancelled = practice.act(visit, "cancel").get_json()
        practice.booked("09:15", patient_id=practice.clinic.patient()["id"])
        assert code_of(practice.act(visit, "reinstate")) == (409, "slot_taken")
        assert practice.read(visit) == cancelled

    def test_is_refused_when_the_patient_is_elsewhere(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.act(visit, "cancel")
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        practice.booked("09:15", clinician_id=colleague.id)
        refused = practice.act(visit, "reinstate")
        assert code_of(refused) == (409, "patient_busy")
        assert [one["code"] for one in refused.get_json()["reasons"]] == ["patient_busy"]

    def test_takes_its_room_again_though_nobody_works_then_any_more(self, practice: Practice) -> None:
        clinic, site = practice.clinic, practice.clinic.location(time_zone="UTC")
        clinic.room(site)
        one, two = (clinic.clinician(time_zone="UTC", location_id=site["id"]) for _ in range(2))
        for clinician in (one, two):
            clinic.hours(clinician, location_id=site["id"])
        kind = clinic.appointment_type(needs_room=True)["id"]
        visit = practice.booked(clinician_id=one.id, appointment_type_id=kind)
        assert practice.act(visit, "cancel").status_code == 200
        off = {"clinician_id": one.id, "start": day_after(3, "09:00"), "end": day_after(3, "10:00")}
        assert practice.desk.post("/time-offs", off).status_code == 201
        assert practice.act(visit, "reinstate").status_code == 200
        other = {"clinician_id": two.id, "appointment_type_id": kind, "patient_id": clinic.patient()["id"]}
        assert code_of(practice.book(**other)) == (409, "room_taken")
        assert practice.act(visit, "cancel").status_code == 200
        assert practice.book(**other).status_code == 201
        assert code_of(practice.act(visit, "reinstate")) == (409, "room_taken")

    def test_what_was_missed_is_put_back_after_its_time_too(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.act(visit, "no-show")
        back = act_at(practice, day_after(3, "12:00"), visit, "reinstate", practice.desk)
        assert (back.status_code, back.get_json()["status"]) == (200, "booked")


class TestApproval:
    """What needs approval is requested first, and has its time from then on."""

    @pytest.fixture
    def requested(self, practice: Practice) -> dict[str, Any]:
        """A request."""
        practice.kind = practice.clinic.appointment_type(needs_approval=True)
        made = practice.booked("09:00")
        assert made["status"] == "requested"
        return made

    def test_nobody_else_gets_the_time_meanwhile(self, practice: Practice, requested: dict[str, Any]) -> None:
        assert "09:00" not in practice.free()
        refused = practice.book("09:00", patient_id=practice.clinic.patient()["id"])
        assert code_of(refused) == (409, "slot_taken")

    def test_the_clinician_approves(self, practice: Practice, requested: dict[str, Any]) -> None:
        approved = practice.act(requested, "approve", practice.clinician)
        assert approved.get_json() == requested | {"status": "booked", "version": 2}
        assert "09:00" not in practice.free()

    def test_or_declines_and_says_why(self, practice: Practice, requested: dict[str, Any]) -> None:
        declined = practice.act(requested, "decline", practice.clinician)
        assert declined.get_json() == requested | {"status": "cancelled", "status_reason": "flu", "version": 2}
        assert "09:00" in practice.free()

    def test_patients_approve_nothing(self, practice: Practice) -> None:
        practice.kind = practice.clinic.appointment_type(needs_approval=True)
        practice.patient, own = practice.clinic.patient_with_account()
        made = own.post("/appointments", practice.body())
        assert made.get_json()["status"] == "requested"
        assert code_of(practice.act(made.get_json(), "approve", own)) == (403, "forbidden")

    def test_a_stale_decision_is_refused(self, practice: Practice, requested: dict[str, Any]) -> None:
        assert practice.act(requested, "approve", If_Match='"1"').status_code == 200
        assert code_of(practice.act(requested, "decline", If_Match='"1"')) == (412, "stale")


class TestEnteredInError:
    """What should never have been written down."""

    def test_frees_the_time_and_stays_in_the_history(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.act(visit, "enter-in-error")
        assert "09:00" in practice.free()
        events = practice.desk.get(f"/appointments/{visit['id']}/history").get_json()["items"]
        assert [(one["status"], one["reason"]) for one in events] == [("booked", None), ("entered_in_error", "flu")]

    def test_gives_sight_of_the_patient_no_longer_than_a_cancelled_one(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.act(visit, "enter-in-error")
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            written = db.session.get_one(Appointment, UUID(visit["id"]))
            assert written.released_at is not None


@pytest.mark.parametrize("role", [Role.PATIENT, Role.AUDITOR])
def test_who_may_not_undo(practice: Practice, role: Role) -> None:
    """Undoing is the desk's and the clinicians'."""
    visit = practice.booked("09:00")
    practice.act(visit, "cancel")
    assert code_of(practice.act(visit, "reinstate", practice.clinic.user(role))) == (403, "forbidden")
