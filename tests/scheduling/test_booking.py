"""How an appointment comes to its time: every reason told, the fairest found, overbooked on purpose, within limits."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from medical.audit.models import AuditEvent
from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.claims import LANES
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import Practice, code_of


def reasons(answer: TestResponse) -> list[str]:
    """The codes of all that stands in the way."""
    return [one["code"] for one in answer.get_json()["reasons"]]


def offered(answer: TestResponse) -> list[str]:
    """The starts of the times offered instead."""
    return [one["start"] for one in answer.get_json()["next_free"]]


class TestReasons:
    """A refusal tells everything that stands in the way, in a fixed order."""

    def test_the_first_gives_the_code(self, practice: Practice) -> None:
        kind = practice.clinic.appointment_type(min_notice_minutes=6 * 24 * 60, max_per_patient=1)
        practice.booked("09:00", day=9, appointment_type_id=kind["id"])
        practice.booked("16:45", appointment_type_id=practice.clinic.appointment_type(duration_minutes=15)["id"])
        refused = practice.book("16:45", appointment_type_id=kind["id"])
        assert code_of(refused) == (409, "too_soon")
        assert reasons(refused) == ["too_soon", "outside_availability", "slot_taken", "patient_busy", "patient_limit"]
        assert all(one["detail"] for one in refused.get_json()["reasons"])

    def test_clinician_and_patient_both_busy(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        practice.booked("09:00", patient_id=practice.clinic.patient()["id"])
        practice.booked("09:00", clinician_id=colleague.id)
        assert reasons(practice.book("09:15")) == ["slot_taken", "patient_busy"]

    def test_nothing_of_the_other_patient_is_told(self, practice: Practice) -> None:
        other = practice.clinic.patient(given_name="Secretive", family_name="Somebody")
        taken = practice.booked("09:00", patient_id=other["id"], reason="a secret")
        own, caller = practice.clinic.patient_with_account()
        refused = caller.post("/appointments", practice.body("09:00", patient_id=own["id"]))
        assert code_of(refused) == (409, "slot_taken")
        for word in (other["id"], taken["id"], "Secretive", "Somebody", "secret"):
            assert word not in refused.text

    def test_moving_an_appointment_tells_them_too(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        practice.booked(
            "16:45",
            appointment_type_id=practice.clinic.appointment_type(duration_minutes=15)["id"],
            patient_id=practice.clinic.patient()["id"],
        )
        refused = practice.desk.post(f"/appointments/{visit['id']}/reschedule", {"start": day_after(3, "16:45")})
        assert reasons(refused) == ["outside_availability", "slot_taken"]
        assert practice.read(visit) == visit


class TestNextFree:
    """A refusal offers the next times at which the same would work."""

    def test_are_the_next_three(self, practice: Practice) -> None:
        practice.booked("09:00")
        practice.booked("10:00", patient_id=practice.clinic.patient()["id"])
        refused = practice.book("09:00", patient_id=practice.clinic.patient()["id"])
        assert offered(refused) == [day_after(3, at) for at in ("09:30", "10:30", "11:00")]

    def test_leave_out_when_the_patient_is_elsewhere(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        practice.booked("09:30", clinician_id=colleague.id)
        practice.booked("09:00", patient_id=practice.clinic.patient()["id"])
        assert offered(practice.book("09:00")) == [day_after(3, at) for at in ("10:00", "10:30", "11:00")]

    def test_leave_out_days_that_are_full(self, practice: Practice) -> None:
        practice.kind = practice.clinic.appointment_type(max_per_day=1)
        practice.booked("09:00", patient_id=practice.clinic.patient()["id"])
        refused = practice.book("10:00")
        assert code_of(refused) == (409, "day_full")
        assert offered(refused) == [day_after(4, at) for at in ("09:00", "09:30", "10:00")]

    def test_each_can_be_booked(self, practice: Practice) -> None:
        practice.booked("16:00", patient_id=practice.clinic.patient()["id"])
        for time in practice.book("16:00").get_json()["next_free"]:
            assert time["clinician_id"] == practice.clinician.id
            assert practice.desk.post("/appointments", practice.body() | {"start": time["start"]}).status_code == 201

    def test_are_none_where_nothing_is_open(self, practice: Practice) -> None:
        assert practice.desk.delete(f"/availabilities/{practice.hours['id']}").status_code == 204
        assert offered(practice.book("09:00")) == []

    def test_for_a_past_time_they_are_of_now_on(self, practice: Practice) -> None:
        refused = practice.book(day=-30)
        assert code_of(refused) == (409, "too_soon")
        assert len(offered(refused)) == 3
        assert all(start > day_after(-1) for start in offered(refused))

    def test_a_repeated_key_is_told_the_same(self, practice: Practice) -> None:
        practice.booked("09:00")
        body = practice.body(patient_id=practice.clinic.patient()["id"])
        told = [practice.desk.post("/appointments", body, Idempotency_Key="one") for _ in range(2)]
        assert told[0].get_json()["next_free"] == told[1].get_json()["next_free"] != []


class TestAnyOfSeveral:
    """Without a clinician but with a specialty: the fairest of those who are free."""

    @pytest.fixture
    def several(self, practice: Practice) -> list[Caller]:
        """Three heart specialists, in the order of their ids; each works eight hours a day."""
        made = [practice.clinic.clinician(time_zone="UTC", specialty="Heart") for _ in range(3)]
        for one in made:
            practice.clinic.hours(one)
        return sorted(made, key=lambda one: one.id)

    def anyone(self, practice: Practice, at: str = "09:00", caller: Caller | None = None, **given: Any) -> TestResponse:
        """A booking with whoever is free."""
        body = practice.body(at) | {"clinician_id": None, "specialty": "heart"} | given
        return (caller or practice.desk).post("/appointments", body)

    def test_goes_round(self, practice: Practice, several: list[Caller]) -> None:
        given = [
            self.anyone(practice, at, patient_id=practice.clinic.patient()["id"]).get_json()["clinician_id"]
            for at in ("09:00", "09:30", "10:00", "10:30", "11:00", "11:30")
        ]
        assert given == [one.id for one in several] * 2

    def test_who_works_half_as_much_gets_half_as_many(self, practice: Practice) -> None:
        full, half = (practice.clinic.clinician(time_zone="UTC", specialty="Heart") for _ in range(2))
        practice.clinic.hours(full)
        practice.clinic.hours(half, end_time="13:00")
        given = Counter(
            self.anyone(
                practice, f"{9 + n // 2:02}:{n % 2 * 30:02}", patient_id=practice.clinic.patient()["id"]
            ).get_json()["clinician_id"]
            for n in range(6)
        )
        assert given == {full.id: 4, half.id: 2}

    def test_the_patient_stays_with_whom_they_know(self, practice: Practice, several: list[Caller]) -> None:
        known = several[2]
        practice.booked("15:00", clinician_id=known.id)
        practice.booked("15:30", clinician_id=known.id, patient_id=practice.clinic.patient()["id"])
        assert self.anyone(practice).get_json()["clinician_id"] == known.id
        other = self.anyone(practice, "09:30", patient_id=practice.clinic.patient()["id"])
        assert other.get_json()["clinician_id"] == several[0].id

    def test_unless_they_are_taken(self, practice: Practice, several: list[Caller]) -> None:
        practice.booked("15:00", clinician_id=several[2].id)
        practice.booked("09:00", clinician_id=several[2].id, patient_id=practice.clinic.patient()["id"])
        assert self.anyone(practice).get_json()["clinician_id"] == several[0].id

    def test_fills_all_and_then_tells_the_next_times(self, practice: Practice, several: list[Caller]) -> None:
        for _ in several:
            assert self.anyone(practice, patient_id=practice.clinic.patient()["id"]).status_code == 201
        refused = self.anyone(practice)
        assert code_of(refused) == (409, "slot_taken")
        assert offered(refused) == [day_after(3, "09:30")] * 3
        assert {one["clinician_id"] for one in refused.get_json()["next_free"]} == {one.id for one in several}

    def test_a_busy_patient_is_told_so(self, practice: Practice, several: list[Caller]) -> None:
        practice.booked("09:00")
        assert reasons(self.anyone(practice)) == ["patient_busy"]

    def test_a_full_day_of_one_goes_to_another(self, practice: Practice, several: list[Caller]) -> None:
        practice.kind = practice.clinic.appointment_type(max_per_day=1)
        for at in ("09:00", "09:30", "10:00"):
            assert self.anyone(practice, at, patient_id=practice.clinic.patient()["id"]).status_code == 201
        assert reasons(self.anyone(practice, "11:00")) == ["day_full"]

    def test_the_past_is_too_soon(self, practice: Practice, several: list[Caller]) -> None:
        assert code_of(self.anyone(practice, start=day_after(-2, "09:00"))) == (409, "too_soon")

    def test_patients_do_so_for_themselves(self, practice: Practice, several: list[Caller]) -> None:
        own, caller = practice.clinic.patient_with_account()
        booked = self.anyone(practice, caller=caller, patient_id=own["id"])
        assert (booked.status_code, booked.get_json()["clinician_id"]) == (201, several[0].id)
        assert code_of(self.anyone(practice, "10:00", caller=caller)) == (404, "not_found")

    def test_what_patients_do_not_see_counts_too(self, practice: Practice, several: list[Caller]) -> None:
        for at in ("14:00", "14:30"):
            practice.booked(at, clinician_id=several[0].id)
        own, caller = practice.clinic.patient_with_account()
        assert self.anyone(practice, caller=caller, patient_id=own["id"]).get_json()["clinician_id"] == several[1].id

    def test_clinicians_choose_among_themselves_alone(self, practice: Practice, several: list[Caller]) -> None:
        booked = self.anyone(practice, caller=several[1])
        assert (booked.status_code, booked.get_json()["clinician_id"]) == (201, several[1].id)
        assert code_of(self.anyone(practice, caller=practice.clinician)) == (409, "slot_taken")

    @pytest.mark.parametrize(
        ("given", "pointer"),
        [
            ({"specialty": None}, "/clinician_id"),
            ({"clinician_id": "a", "specialty": "Heart"}, "/specialty"),
            ({"hold_id": "a"}, "/hold_id"),
        ],
    )
    def test_a_wrong_body_is_told_where(self, practice: Practice, given: dict[str, Any], pointer: str) -> None:
        ids = {name: practice.clinician.id for name, value in given.items() if value == "a"}
        refused = self.anyone(practice, **given | ids)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [pointer]


class TestOverbooking:
    """Beside what a clinician has, by those who may, with a reason."""

    def over(self, practice: Practice, at: str = "09:00", caller: Caller | None = None, **given: Any) -> TestResponse:
        """An overbooking of another patient."""
        body = practice.body(at) | {"patient_id": practice.clinic.patient()["id"], "overbook_reason": "in pain"}
        return (caller or practice.desk).post("/appointments/overbook", body | given)

    def test_stands_beside_the_other_and_shows(self, practice: Practice) -> None:
        first = practice.booked("09:00")
        beside = self.over(practice, "09:15")
        assert beside.status_code == 201
        made = beside.get_json()
        assert (made["overbooked"], made["status_reason"]) == (True, "in pain")
        assert practice.read(made) == made
        assert practice.read(first) == first
        (event,) = practice.desk.get(f"/appointments/{made['id']}/history").get_json()["items"]
        assert (event["status"], event["reason"]) == ("booked", "in pain")

    def test_is_none_where_the_time_is_free(self, practice: Practice) -> None:
        assert self.over(practice).get_json()["overbooked"] is False
        assert code_of(practice.book("09:00")) == (409, "slot_taken")

    def test_has_an_end(self, practice: Practice) -> None:
        practice.booked("09:00")
        assert [self.over(practice).status_code for _ in range(LANES + 1)] == [201] * LANES + [409]
        assert code_of(self.over(practice)) == (409, "slot_taken")

    def test_leaves_the_patients_time_alone(self, practice: Practice) -> None:
        practice.booked("09:00")
        refused = self.over(practice, patient_id=practice.patient["id"])
        assert code_of(refused) == (409, "patient_busy")
        assert code_of(self.over(practice, "20:00")) == (409, "outside_availability")

    def test_frees_its_place_when_it_is_cancelled(self, practice: Practice) -> None:
        practice.booked("09:00")
        made = [self.over(practice).get_json() for _ in range(LANES)]
        assert practice.act(made[1], "cancel").status_code == 200
        assert self.over(practice).status_code == 201

    def test_moved_to_a_free_time_it_is_one_no_more(self, practice: Practice) -> None:
        practice.booked("09:00")
        moved = practice.act(self.over(practice).get_json(), "reschedule")
        assert (moved.status_code, moved.get_json()["overbooked"]) == (200, False)

    def test_needs_a_reason_and_the_permission(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        assert code_of(self.over(practice, overbook_reason=" ")) == (422, "invalid_request")
        assert code_of(self.over(practice, caller=patient, patient_id=own["id"])) == (403, "forbidden")
        assert code_of(self.over(practice, caller=practice.clinic.clinician())) == (403, "not_your_diary")
        assert self.over(practice, caller=practice.clinician).status_code == 201

    def test_is_in_the_trail_by_its_own_name(self, practice: Practice) -> None:
        practice.booked("09:00")
        answer = self.over(practice)
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            query = select(AuditEvent).where(AuditEvent.request_id == answer.headers["X-Request-ID"])
            assert {event.action for event in db.session.scalars(query)} == {"appointment.overbooked"}


class TestLimits:
    """As many of a type as it allows."""

    def limited(self, practice: Practice, **limits: int) -> Callable[..., TestResponse]:
        """Books another patient with a type that is limited so."""
        practice.kind = practice.clinic.appointment_type(**limits)
        return lambda at, day=3, **given: practice.book(
            at, day, **{"patient_id": practice.clinic.patient()["id"]} | given
        )

    def test_of_a_clinician_on_a_day(self, practice: Practice) -> None:
        book = self.limited(practice, max_per_day=2)
        assert [book(at).status_code for at in ("09:00", "10:00", "11:00")] == [201, 201, 409]
        assert code_of(book("12:00")) == (409, "day_full")
        assert book("09:00", 4).status_code == 201
        assert practice.book("13:00", appointment_type_id=practice.clinic.appointment_type()["id"]).status_code == 201

    def test_the_day_is_the_clinicians(self, clinic: Clinic) -> None:
        """In Kathmandu the next day begins at 18:15 in UTC."""
        practice = Practice(clinic)
        practice.clinician = clinic.clinician(time_zone="Asia/Kathmandu")
        clinic.hours(practice.clinician, time_zone="UTC", start_time="17:00", end_time="20:00")
        book = self.limited(practice, max_per_day=1)
        assert book("17:45").status_code == 201
        assert code_of(book("17:15")) == (409, "day_full")
        assert book("18:15").status_code == 201
        assert code_of(book("19:00")) == (409, "day_full")

    def test_what_was_cancelled_does_not_count(self, practice: Practice) -> None:
        book = self.limited(practice, max_per_day=1)
        made = book("09:00").get_json()
        assert practice.act(made, "cancel").status_code == 200
        assert book("10:00").status_code == 201

    def test_of_a_patient_ahead(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        book = self.limited(practice, max_per_patient=2)
        for day in (3, 8):
            assert book("09:00", day, patient_id=own["id"]).status_code == 201
        refused = patient.post("/appointments", practice.body("10:00", patient_id=own["id"]))
        assert code_of(refused) == (409, "patient_limit")
        assert book("10:00").status_code == 201

    def test_what_is_over_counts_no_more(self, practice: Practice) -> None:
        book = self.limited(practice, max_per_patient=1)
        made = book("09:00", patient_id=practice.patient["id"]).get_json()
        with practice.clinic.at(made["end"]) as then:
            again = then(practice.desk).post("/appointments", practice.body("11:00"))
        assert again.status_code == 201

    def test_an_appointment_is_not_in_its_own_way(self, practice: Practice) -> None:
        book = self.limited(practice, max_per_day=1, max_per_patient=1)
        made = book("09:00").get_json()
        moved = practice.desk.post(f"/appointments/{made['id']}/reschedule", {"start": day_after(3, "10:00")})
        assert moved.status_code == 200

    def test_moving_goes_by_them_too(self, practice: Practice) -> None:
        book = self.limited(practice, max_per_day=1)
        book("09:00")
        made = book("09:00", 4).get_json()
        moved = practice.desk.post(f"/appointments/{made['id']}/reschedule", {"start": day_after(3, "10:00")})
        assert code_of(moved) == (409, "day_full")
        assert practice.read(made) == made

    @pytest.mark.parametrize("role", [Role.RECEPTIONIST, Role.PATIENT])
    def test_whatever_the_caller_sees(self, practice: Practice, role: Role) -> None:
        book = self.limited(practice, max_per_day=1)
        book("09:00")
        own, patient = practice.clinic.patient_with_account()
        caller = patient if role is Role.PATIENT else practice.desk
        assert code_of(caller.post("/appointments", practice.body("10:00", patient_id=own["id"]))) == (
            409,
            "day_full",
        )
