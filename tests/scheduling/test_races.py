"""Sixteen people at one diary at the same moment. PostgreSQL decides; nobody waits in vain."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from werkzeug.test import TestResponse

from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, day_after

RACERS, ROUNDS = 16, 6

OVERLAPPING = text(
    """
    SELECT count(*) FROM appointment a JOIN appointment b
      ON a.id < b.id AND (a.clinician_id = b.clinician_id OR a.patient_id = b.patient_id)
     AND a.start_at < b.end_at AND b.start_at < a.end_at
    WHERE a.status NOT IN ('cancelled', 'no_show', 'entered_in_error')
      AND b.status NOT IN ('cancelled', 'no_show', 'entered_in_error') AND NOT (a.overbooked OR b.overbooked)
    """
)
"""Live appointments of one person at one time."""

UNCLAIMED = text(
    """
    WITH wanted AS (
        SELECT id, person, kind, start_at, end_at FROM appointment
        CROSS JOIN LATERAL (VALUES (clinician_id, 'clinician'), (patient_id, 'patient')) AS v (person, kind)
        WHERE status NOT IN ('cancelled', 'no_show', 'entered_in_error')
    ), claimed AS (
        SELECT appointment_id, bookable_id, kind, start_at, end_at FROM allocation WHERE hold_id IS NULL
    )
    SELECT (SELECT count(*) FROM (TABLE wanted EXCEPT TABLE claimed) AS missing)
         + (SELECT count(*) FROM (TABLE claimed EXCEPT TABLE wanted) AS left_over)
    """
)
"""Claims that live appointments lack, and claims of none."""


@pytest.fixture
def troubles(app: Flask) -> Iterator[list[str]]:
    """Database errors of the kind that a race may cause: deadlocks, waits cut short, failed serialisation."""
    seen: list[str] = []

    def note(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, psycopg.Error):
            seen.append(f"{context.original_exception.sqlstate} {type(context.original_exception).__name__}")

    with app.app_context():
        engine = db.engine
    event.listen(engine, "handle_error", note)
    yield seen
    event.remove(engine, "handle_error", note)


@pytest.fixture(scope="module")
def diary(app: Flask) -> "Diary":
    """One diary for all races; each has a day of its own."""
    return Diary(Clinic(app))


@pytest.fixture(params=range(ROUNDS))
def day(diary: "Diary", troubles: list[str]) -> Iterator[int]:
    """A day of the diary with nothing booked; afterwards the diary is whole, however many raced for it."""
    yield next(diary.days)
    with diary.clinic.app.app_context(), scoped(Scope(diary.clinic.organization_id)):
        assert db.session.scalar(OVERLAPPING) == 0
        assert db.session.scalar(UNCLAIMED) == 0
        db.session.rollback()
    assert troubles == []


class Diary:
    """Two clinicians, a kind of visit, and a patient for each racer."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.days = clinic, itertools.count(1)
        self.clinicians = [clinic.clinician(time_zone="UTC") for _ in range(2)]
        for one in self.clinicians:
            clinic.hours(one)
        self.kind = clinic.appointment_type()
        self.patients = [clinic.patient() for _ in range(RACERS)]
        self.callers = [clinic.signed_in(clinic.admin.user_id) for _ in range(RACERS) if clinic.admin.user_id]

    def body(self, patient: int, at: str, clinician: int = 0, *, day: int) -> dict[str, Any]:
        """A booking."""
        return self.clinic.booking(self.patients[patient], self.clinicians[clinician], self.kind, day_after(day, at))

    def booked(self, patient: int, at: str, clinician: int = 0, *, day: int) -> str:
        """The path of a booked appointment."""
        answer = self.clinic.admin.post("/appointments", self.body(patient, at, clinician, day=day))
        assert answer.status_code == 201, answer.text
        return f"/appointments/{answer.get_json()['id']}"

    def race(self, act: Callable[[Caller, int], TestResponse]) -> list[TestResponse]:
        """Everybody acts at once; the answers by racer."""
        barrier = Barrier(RACERS)

        def run(number: int) -> TestResponse:
            barrier.wait()
            return act(self.callers[number], number)

        with ThreadPoolExecutor(RACERS) as pool:
            return list(pool.map(run, range(RACERS)))


def tally(answers: Sequence[TestResponse]) -> Counter[str]:
    """How often each answer was given."""
    return Counter(
        f"{answer.status_code} {answer.get_json()['code']}" if answer.status_code >= 400 else str(answer.status_code)
        for answer in answers
    )


class TestRaces:
    """Each several times over."""

    def test_one_slot_goes_to_one_patient(self, diary: Diary, day: int) -> None:
        answers = diary.race(lambda caller, n: caller.post("/appointments", diary.body(n, "09:00", day=day)))
        assert tally(answers) == {"201": 1, "409 slot_taken": RACERS - 1}

    def test_of_overlapping_times_one_is_given(self, diary: Diary, day: int) -> None:
        at = ["09:00", "09:15", "09:29", "09:05"]
        answers = diary.race(lambda caller, n: caller.post("/appointments", diary.body(n, at[n % 4], day=day)))
        assert tally(answers) == {"201": 1, "409 slot_taken": RACERS - 1}

    def test_of_a_chain_of_overlapping_times_as_many_are_given_as_fit(self, diary: Diary, day: int) -> None:
        """Each overlaps its neighbours only: whatever the order, those given are apart and no other would fit."""
        at = [f"{9 + n * 20 // 60:02}:{n * 20 % 60:02}" for n in range(RACERS)]
        answers = diary.race(lambda caller, n: caller.post("/appointments", diary.body(n, at[n], day=day)))
        given = [n for n, answer in enumerate(answers) if answer.status_code == 201]
        assert tally(answers) == {"201": len(given), "409 slot_taken": RACERS - len(given)}
        assert all(n in given or n - 1 in given or n + 1 in given for n in range(RACERS))

    def test_one_patient_is_with_one_of_two_clinicians(self, diary: Diary, day: int) -> None:
        answers = diary.race(lambda caller, n: caller.post("/appointments", diary.body(0, "09:00", n % 2, day=day)))
        counts = tally(answers)
        assert counts["201"] == 1
        assert counts["409 slot_taken"] + counts["409 patient_busy"] == RACERS - 1

    def test_one_patient_at_overlapping_times_of_two_clinicians(self, diary: Diary, day: int) -> None:
        at = ["09:00", "09:10"]
        answers = diary.race(lambda caller, n: caller.post("/appointments", diary.body(0, at[n % 2], n % 2, day=day)))
        counts = tally(answers)
        assert counts["201"] == 1
        assert counts["409 slot_taken"] + counts["409 patient_busy"] == RACERS - 1

    def test_two_appointments_cannot_swap_and_neither_is_lost(self, diary: Diary, day: int) -> None:
        """Each wants the time of the other: both are refused until the other is gone, which never happens."""
        first, second = diary.booked(0, "09:00", day=day), diary.booked(1, "09:30", day=day)
        wishes = [(first, "09:30"), (second, "09:00")]

        def swap(caller: Caller, number: int) -> TestResponse:
            path, at = wishes[number % 2]
            return caller.post(f"{path}/reschedule", {"start": day_after(day, at)})

        assert tally(diary.race(swap)) == {"409 slot_taken": RACERS}
        starts = [diary.clinic.admin.get(path).get_json()["start"] for path in (first, second)]
        assert starts == [day_after(day, "09:00"), day_after(day, "09:30")]

    def test_swaps_between_two_clinicians_are_refused_without_a_deadlock(self, diary: Diary, day: int) -> None:
        paths = [diary.booked(0, "09:00", 0, day=day), diary.booked(1, "09:00", 1, day=day)]

        def swap(caller: Caller, number: int) -> TestResponse:
            body = {"start": day_after(day, "09:00"), "clinician_id": diary.clinicians[1 - number % 2].id}
            return caller.post(f"{paths[number % 2]}/reschedule", body)

        assert tally(diary.race(swap)) == {"409 slot_taken": RACERS}

    def test_rescheduling_and_booking_for_one_time(self, diary: Diary, day: int) -> None:
        paths = [diary.booked(n, f"{10 + n // 2:02}:{n % 2 * 30:02}", day=day) for n in range(8)]

        def want_nine(caller: Caller, number: int) -> TestResponse:
            if number < len(paths):
                return caller.post(f"{paths[number]}/reschedule", {"start": day_after(day, "09:00")})
            return caller.post("/appointments", diary.body(number, "09:00", day=day))

        counts = tally(diary.race(want_nine))
        assert counts["200"] + counts["201"] == 1
        assert counts["409 slot_taken"] == RACERS - 1

    def test_everybody_moves_one_appointment_somewhere_else(self, diary: Diary, day: int) -> None:
        """Without If-Match the last one wins, and the appointment is in one place."""
        path = diary.booked(0, "09:05", day=day)
        at = [f"{9 + n // 2:02}:{n % 2 * 30:02}" for n in range(RACERS)]
        answers = diary.race(lambda caller, n: caller.post(f"{path}/reschedule", {"start": day_after(day, at[n])}))
        assert tally(answers) == {"200": RACERS}
        assert diary.clinic.admin.get(path).get_json()["version"] == RACERS + 1

    def test_with_if_match_one_change_goes_through(self, diary: Diary, day: int) -> None:
        path = diary.booked(0, "09:00", day=day)

        def change(caller: Caller, number: int) -> TestResponse:
            if number % 2:
                return caller.post(f"{path}/check-in", If_Match='"1"')
            return caller.post(f"{path}/cancel", {"reason": "flu"}, If_Match='"1"')

        assert tally(diary.race(change)) == {"200": 1, "412 stale": RACERS - 1}

    def test_cancelling_against_checking_in(self, diary: Diary, day: int) -> None:
        """One may check in and be cancelled then, not the other way round; nothing happens twice."""
        path = diary.booked(0, "09:00", day=day)

        def change(caller: Caller, number: int) -> TestResponse:
            return caller.post(f"{path}/check-in") if number % 2 else caller.post(f"{path}/cancel", {"reason": "flu"})

        answers = diary.race(change)
        cancelled, checked_in = tally(answers[0::2]), tally(answers[1::2])
        assert cancelled == {"200": 1, "409 invalid_transition": RACERS // 2 - 1}
        assert checked_in["200"] <= 1
        assert checked_in["200"] + checked_in["409 invalid_transition"] == RACERS // 2
        events = diary.clinic.admin.get(f"{path}/history").get_json()["items"]
        assert [one["status"] for one in events] == ["booked", "checked_in", "cancelled"][
            :: 1 if checked_in["200"] else 2
        ]

    def test_a_cancelled_time_goes_to_one_of_those_who_wait_for_it(self, diary: Diary, day: int) -> None:
        path = diary.booked(0, "09:00", day=day)

        def act(caller: Caller, number: int) -> TestResponse:
            if number == 0:
                return caller.post(f"{path}/cancel", {"reason": "flu"})
            return caller.post("/appointments", diary.body(number, "09:00", day=day))

        counts = tally(diary.race(act))
        assert counts["200"] == 1
        assert counts["201"] <= 1
        assert counts["201"] + counts["409 slot_taken"] == RACERS - 1

    def test_one_key_makes_one_appointment(self, diary: Diary, day: int) -> None:
        key, caller = str(uuid4()), diary.clinic.admin
        answers = diary.race(
            lambda _, n: caller.post("/appointments", diary.body(0, "09:00", day=day), Idempotency_Key=key)
        )
        assert tally(answers) == {"201": RACERS}
        assert len({answer.get_json()["id"] for answer in answers}) == 1
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == RACERS - 1
        that_day = caller.get("/appointments", from_=day_after(day), to=day_after(day + 1)).get_json()["items"]
        assert [one["id"] for one in that_day] == [answers[0].get_json()["id"]]

    def test_everybody_books_everybody_in_opposite_orders(self, diary: Diary, day: int) -> None:
        """Patients and clinicians criss-cross; as many are booked as places, each refusal is one of the two."""

        def act(caller: Caller, number: int) -> TestResponse:
            return caller.post("/appointments", diary.body(number % 4, "09:00", number // 4 % 2, day=day))

        counts = tally(diary.race(act))
        assert counts["201"] == 2
        assert counts["409 slot_taken"] + counts["409 patient_busy"] == RACERS - 2
