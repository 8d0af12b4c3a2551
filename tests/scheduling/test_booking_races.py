"""Holds, approval, numbers, limits and free choice, when sixteen people want them at the same moment."""

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from werkzeug.test import TestResponse

from medical.scheduling import claims, holds
from tests.clinic import Caller, day_after
from tests.scheduling.racing import RACERS, Diary, tally

TIMES = [f"{9 + n // 2:02}:{n % 2 * 30:02}" for n in range(RACERS)]


@pytest.fixture(params=range(3))
def day(fresh_day: int) -> int:
    """A day with nothing booked, several times over."""
    return fresh_day


def hold(diary: Diary, at: str, day: int, clinician: int = 0) -> dict[str, Any]:
    """The body of a hold."""
    return {
        "appointment_type_id": diary.kind["id"],
        "clinician_id": diary.clinicians[clinician].id,
        "start": day_after(day, at),
    }


def held(diary: Diary, at: str, day: int) -> dict[str, Any]:
    """A hold of the administrator's."""
    answer = diary.clinic.admin.post("/holds", hold(diary, at, day))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


class TestHolds:
    """A hold excludes like an appointment, and like none once it expired."""

    def test_holding_against_booking(self, diary: Diary, day: int) -> None:
        def act(caller: Caller, number: int) -> TestResponse:
            if number % 2:
                return caller.post("/holds", hold(diary, "09:00", day))
            return caller.post("/appointments", diary.body(number, "09:00", day=day))

        answers = diary.race(act)
        assert tally(answers) == {"201": 1, "409 slot_taken": RACERS - 1}
        give_up(diary, answers[1::2])

    def test_an_expired_hold_is_taken_over_once(self, diary: Diary, day: int) -> None:
        held(diary, "09:00", day)

        def act(caller: Caller, number: int) -> TestResponse:
            if number % 2:
                return caller.post("/holds", hold(diary, "09:00", day))
            return caller.post("/appointments", diary.body(number, "09:00", day=day))

        answers = diary.race(act, at=after_the_hold())
        assert tally(answers) == {"201": 1, "409 slot_taken": RACERS - 1}
        give_up(diary, answers[1::2])

    def test_two_expired_holds_in_the_way_of_overlapping_times(self, diary: Diary, day: int) -> None:
        held(diary, "09:00", day)
        held(diary, "09:30", day)
        at = ["09:15", "09:00", "09:30", "09:20"]
        answers = diary.race(
            lambda caller, n: caller.post("/appointments", diary.body(n, at[n % 4], day=day)), at=after_the_hold()
        )
        counts = tally(answers)
        assert counts["201"] in (1, 2)
        assert counts["201"] + counts["409 slot_taken"] == RACERS

    def test_one_hold_makes_one_appointment(self, diary: Diary, day: int) -> None:
        mine = held(diary, "09:00", day)
        answers = diary.race(
            lambda caller, n: caller.post("/appointments", diary.body(n, "09:00", day=day) | {"hold_id": mine["id"]})
        )
        assert tally(answers) == {"201": 1, "409 hold_expired": RACERS - 1}

    def test_booking_from_it_against_giving_it_up(self, diary: Diary, day: int) -> None:
        """Whoever comes first: the appointment is there and the hold is not, or nothing is."""
        mine = held(diary, "09:00", day)

        def act(caller: Caller, number: int) -> TestResponse:
            if number % 2:
                return caller.delete(f"/holds/{mine['id']}")
            return caller.post("/appointments", diary.body(number, "09:00", day=day) | {"hold_id": mine["id"]})

        answers = diary.race(act)
        done = [answer.status_code for answer in answers if answer.status_code < 300]
        assert done in ([201], [204])

    def test_nobody_holds_more_than_one_may(self, diary: Diary, day: int) -> None:
        answers = diary.race(lambda caller, n: caller.post("/holds", hold(diary, TIMES[n], day)))
        assert tally(answers) == {"201": holds.MOST, "409 too_many_holds": RACERS - holds.MOST}
        give_up(diary, answers)


def after_the_hold() -> str:
    """A moment at which what is held now is free again."""
    return (datetime.now().astimezone() + holds.LIFETIME).isoformat()


def give_up(diary: Diary, answers: list[TestResponse]) -> None:
    """End the holds that came about, for one caller may have few."""
    for answer in answers:
        if answer.status_code == 201:
            assert diary.clinic.admin.delete(f"/holds/{answer.get_json()['id']}").status_code == 204


class TestStates:
    """Of two acts that exclude each other, one happens."""

    def test_approving_against_declining(self, diary: Diary, day: int) -> None:
        kind = diary.clinic.appointment_type(needs_approval=True)
        body = diary.body(0, "09:00", day=day) | {"appointment_type_id": kind["id"]}
        path = f"/appointments/{diary.clinic.admin.post('/appointments', body).get_json()['id']}"

        def decide(caller: Caller, number: int) -> TestResponse:
            return caller.post(f"{path}/approve") if number % 2 else caller.post(f"{path}/decline", {"reason": "no"})

        assert tally(diary.race(decide)) == {"200": 1, "409 invalid_transition": RACERS - 1}
        assert len(diary.clinic.admin.get(f"{path}/history").get_json()["items"]) == 2

    def test_putting_it_back_against_booking_its_time(self, diary: Diary, day: int) -> None:
        path = diary.booked(0, "09:00", day=day)
        assert diary.clinic.admin.post(f"{path}/cancel", {"reason": "flu"}).status_code == 200

        def act(caller: Caller, number: int) -> TestResponse:
            if number % 2:
                return caller.post(f"{path}/reinstate", {"reason": "well again"})
            return caller.post("/appointments", diary.body(number, "09:00", day=day))

        counts = tally(diary.race(act))
        assert counts["200"] + counts["201"] == 1
        assert counts["409 slot_taken"] + counts["409 invalid_transition"] == RACERS - 1

    def test_no_queue_number_is_given_twice_and_none_left_out(self, diary: Diary, day: int) -> None:
        paths = [diary.booked(n, TIMES[n], day=day) for n in range(RACERS)]
        answers = diary.race(lambda caller, n: caller.post(f"{paths[n]}/check-in"), at=day_after(day, "09:00"))
        assert tally(answers) == {"200": RACERS}
        assert sorted(answer.get_json()["queue_number"] for answer in answers) == [*range(1, RACERS + 1)]


class TestLimits:
    """What is limited is not exceeded, however many ask at once."""

    def test_of_a_day(self, diary: Diary, day: int) -> None:
        kind = diary.clinic.appointment_type(max_per_day=3)
        answers = diary.race(
            lambda caller, n: caller.post(
                "/appointments", diary.body(n, TIMES[n], day=day) | {"appointment_type_id": kind["id"]}
            )
        )
        assert tally(answers) == {"201": 3, "409 day_full": RACERS - 3}

    def test_of_a_patient_with_two_clinicians(self, diary: Diary, day: int) -> None:
        kind = diary.clinic.appointment_type(max_per_patient=3)
        answers = diary.race(
            lambda caller, n: caller.post(
                "/appointments", diary.body(0, TIMES[n], n % 2, day=day) | {"appointment_type_id": kind["id"]}
            )
        )
        assert tally(answers) == {"201": 3, "409 patient_limit": RACERS - 3}

    def test_of_overbooking(self, diary: Diary, day: int) -> None:
        answers = diary.race(
            lambda caller, n: caller.post(
                "/appointments/overbook", diary.body(n, "09:00", day=day) | {"overbook_reason": "in pain"}
            )
        )
        assert tally(answers) == {"201": 1 + claims.LANES, "409 slot_taken": RACERS - 1 - claims.LANES}
        beside = Counter(answer.get_json()["overbooked"] for answer in answers if answer.status_code == 201)
        assert beside == {False: 1, True: claims.LANES}


@pytest.fixture(scope="module")
def heart(diary: Diary) -> list[Caller]:
    """Five clinicians of one specialty."""
    several = [diary.clinic.clinician(time_zone="UTC", specialty="Heart") for _ in range(5)]
    for one in several:
        diary.clinic.hours(one)
    return several


class TestAnyOfSeveral:
    """Whoever is free of a specialty."""

    def test_fills_them_exactly(self, diary: Diary, day: int, heart: list[Caller]) -> None:
        def act(caller: Caller, number: int) -> TestResponse:
            body = diary.body(number, "09:00", day=day)
            return caller.post("/appointments", body | {"clinician_id": None, "specialty": "heart"})

        answers = diary.race(act)
        assert tally(answers) == {"201": len(heart), "409 slot_taken": RACERS - len(heart)}
        given = {answer.get_json()["clinician_id"] for answer in answers if answer.status_code == 201}
        assert given == {one.id for one in heart}

    def test_beside_those_who_name_one(self, diary: Diary, day: int, heart: list[Caller]) -> None:
        def act(caller: Caller, number: int) -> TestResponse:
            body = diary.body(number, "09:00", day=day)
            if number % 2:
                return caller.post("/appointments", body | {"clinician_id": heart[number % 5].id})
            return caller.post("/appointments", body | {"clinician_id": None, "specialty": "heart"})

        counts = tally(diary.race(act))
        assert counts == {"201": len(heart), "409 slot_taken": RACERS - len(heart)}
