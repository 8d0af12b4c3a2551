"""Holds: a time that is somebody's for a few minutes."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling import holds
from medical.scheduling.models import Allocation, Hold
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import Practice, code_of


def body(practice: Practice, at: str = "09:00", **given: Any) -> dict[str, Any]:
    """A hold's."""
    held = {"appointment_type_id": practice.kind["id"], "clinician_id": practice.clinician.id}
    return held | {"start": day_after(3, at)} | given


def place(practice: Practice, at: str = "09:00", caller: Caller | None = None, **given: Any) -> TestResponse:
    """Somebody, or the desk, holds a time."""
    return (caller or practice.desk).post("/holds", body(practice, at, **given))


def held(practice: Practice, at: str = "09:00", caller: Caller | None = None) -> dict[str, Any]:
    """A hold."""
    answer = place(practice, at, caller)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def just_before_end(hold: dict[str, Any]) -> str:
    """The last moment of the hold."""
    return (datetime.fromisoformat(hold["expires_at"]) - timedelta(microseconds=1)).isoformat()


class TestHold:
    """Nobody else can book the time until the hold expires."""

    def test_says_until_when(self, practice: Practice) -> None:
        before = datetime.now().astimezone()
        hold = held(practice)
        left = datetime.fromisoformat(hold["expires_at"]) - before
        assert holds.LIFETIME <= left < holds.LIFETIME + timedelta(minutes=1)
        assert hold == body(practice) | {
            "id": hold["id"],
            "status": "held",
            "end": day_after(3, "09:30"),
            "expires_at": hold["expires_at"],
        }

    def test_takes_the_time_out_of_the_search(self, practice: Practice) -> None:
        hold = held(practice)
        assert "09:00" not in practice.free()
        assert practice.desk.delete(f"/holds/{hold['id']}").status_code == 204
        assert "09:00" in practice.free()

    def test_keeps_others_out_and_those_who_hold_it_without_naming_it(self, practice: Practice) -> None:
        held(practice)
        colleague = practice.clinic.user(Role.RECEPTIONIST)
        assert code_of(colleague.post("/appointments", practice.body())) == (409, "slot_taken")
        assert code_of(practice.book("09:15")) == (409, "slot_taken")
        assert code_of(place(practice, "09:15", colleague)) == (409, "slot_taken")
        assert practice.book("09:30").status_code == 201

    def test_is_over_at_the_very_moment_that_it_says(self, practice: Practice) -> None:
        hold, desk = held(practice), practice.desk
        asked = {"appointment_type_id": practice.kind["id"], "from_": day_after(3), "to": day_after(4)}
        with practice.clinic.at(just_before_end(hold)) as then:
            assert code_of(then(desk).post("/appointments", practice.body())) == (409, "slot_taken")
        with practice.clinic.at(hold["expires_at"]) as then:
            later = then(desk)
            assert day_after(3, "09:00") in [one["start"] for one in later.get("/slots", **asked).get_json()["items"]]
            assert later.post("/appointments", practice.body()).status_code == 201
        assert self.left(practice) == (0, 2)

    def test_another_hold_takes_its_place_when_it_expired(self, practice: Practice) -> None:
        hold, other = held(practice), practice.clinic.user(Role.NURSE)
        with practice.clinic.at(hold["expires_at"]) as then:
            assert place(practice, "09:15", then(other)).status_code == 201
        assert self.left(practice) == (1, 1)

    def test_expired_ones_are_swept_when_the_next_is_placed(self, practice: Practice) -> None:
        hold = held(practice)
        with practice.clinic.at(hold["expires_at"]) as then:
            assert place(practice, "14:00", then(practice.desk)).status_code == 201
        assert self.left(practice) == (1, 1)

    @staticmethod
    def left(practice: Practice) -> tuple[int, int]:
        """How many holds, and how many claims, stand in the database."""
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            counts = (select(func.count()).select_from(model) for model in (Hold, Allocation))
            held, claimed = (db.session.scalars(count).one() for count in counts)
            return held, claimed


class TestRefusals:
    """What cannot be booked is not held."""

    @pytest.mark.parametrize(
        ("given", "codes"),
        [
            ({"start": day_after(3, "17:00")}, ["outside_availability"]),
            ({"start": day_after(-1, "09:00")}, ["too_soon"]),
            ({"start": day_after(600, "20:00")}, ["beyond_horizon", "outside_availability"]),
            ({"start": day_after(3, "10:15")}, ["slot_taken"]),
        ],
    )
    def test_tell_every_reason(self, practice: Practice, given: dict[str, Any], codes: list[str]) -> None:
        practice.booked("10:00")
        refused = place(practice, **given)
        assert code_of(refused) == (409, codes[0])
        assert [one["code"] for one in refused.get_json()["reasons"]] == codes

    @pytest.mark.parametrize("field", ["clinician_id", "appointment_type_id"])
    def test_who_or_what_is_not_there(self, practice: Practice, field: str) -> None:
        assert code_of(place(practice, **{field: str(uuid4())})) == (404, "not_found")

    def test_a_caller_holds_five_times_at_once(self, practice: Practice) -> None:
        first = held(practice, "09:00")
        for at in ("09:30", "10:00", "10:30", "11:00"):
            held(practice, at)
        assert code_of(place(practice, "11:30")) == (409, "too_many_holds")
        assert place(practice, "11:30", practice.clinic.user(Role.NURSE)).status_code == 201
        assert practice.desk.delete(f"/holds/{first['id']}").status_code == 204
        assert place(practice, "12:00").status_code == 201

    def test_expired_ones_do_not_count(self, practice: Practice) -> None:
        last = [held(practice, at) for at in ("09:00", "09:30", "10:00", "10:30", "11:00")][-1]
        with practice.clinic.at(last["expires_at"]) as then:
            assert place(practice, "12:00", then(practice.desk)).status_code == 201

    def test_clinicians_hold_their_own_time(self, practice: Practice) -> None:
        assert place(practice, caller=practice.clinician).status_code == 201
        assert code_of(place(practice, "10:00", practice.clinic.clinician())) == (403, "not_your_diary")

    def test_a_repeated_key_holds_once(self, practice: Practice) -> None:
        answers = [practice.desk.post("/holds", body(practice), Idempotency_Key="one") for _ in range(2)]
        assert answers[0].get_json() == answers[1].get_json()


class TestGivingUp:
    """Holders end their own holds."""

    def test_others_holds_are_not_there(self, practice: Practice, other_clinic: Clinic) -> None:
        hold = held(practice)
        for stranger in (practice.clinic.user(Role.NURSE), other_clinic.admin):
            assert code_of(stranger.delete(f"/holds/{hold['id']}")) == (404, "not_found")
        assert "09:00" not in practice.free()

    def test_twice(self, practice: Practice) -> None:
        path = f"/holds/{held(practice)['id']}"
        assert practice.desk.delete(path).status_code == 204
        assert code_of(practice.desk.delete(path)) == (404, "not_found")


class TestBookingFromIt:
    """The holder books what they hold."""

    def test_gives_the_time_to_the_patient(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        hold = held(practice, caller=patient)
        booked = patient.post("/appointments", practice.body(patient_id=own["id"], hold_id=hold["id"]))
        assert booked.status_code == 201
        assert TestHold.left(practice) == (0, 2)
        assert code_of(patient.delete(f"/holds/{hold['id']}")) == (404, "not_found")

    def test_until_it_expires_though_the_time_be_free(self, practice: Practice) -> None:
        hold = held(practice)
        with practice.clinic.at(hold["expires_at"]) as then:
            late = then(practice.desk).post("/appointments", practice.body(hold_id=hold["id"]))
        assert code_of(late) == (409, "hold_expired")
        assert late.get_json()["next_free"][0]["start"] == day_after(3, "09:00")

    def test_in_the_last_moment(self, practice: Practice) -> None:
        hold = held(practice)
        with practice.clinic.at(just_before_end(hold)) as then:
            booked = then(practice.desk).post("/appointments", practice.body(hold_id=hold["id"]))
        assert booked.status_code == 201

    def test_another_one_may_not(self, practice: Practice) -> None:
        hold, other = held(practice), practice.clinic.user(Role.NURSE)
        refused = other.post("/appointments", practice.body(hold_id=hold["id"]))
        assert code_of(refused) == (409, "hold_expired")
        assert [one["code"] for one in refused.get_json()["reasons"]] == ["hold_expired", "slot_taken"]
        assert practice.book(hold_id=hold["id"]).status_code == 201

    def test_just_what_is_held(self, practice: Practice) -> None:
        hold = held(practice)
        kind = practice.clinic.appointment_type()
        assert code_of(practice.book("09:30", hold_id=hold["id"])) == (409, "hold_expired")
        assert code_of(practice.book(hold_id=hold["id"], appointment_type_id=kind["id"])) == (409, "hold_expired")
        assert code_of(practice.book(hold_id=str(uuid4()))) == (409, "hold_expired")
        assert practice.book(hold_id=hold["id"]).status_code == 201

    def test_refused_for_another_reason_the_hold_stays(self, practice: Practice) -> None:
        hold = held(practice)
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        practice.booked("09:00", clinician_id=colleague.id)
        assert code_of(practice.book(hold_id=hold["id"])) == (409, "patient_busy")
        assert practice.book(hold_id=hold["id"], patient_id=practice.clinic.patient()["id"]).status_code == 201
