"""Sixteen people at one diary at the same moment."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.clinic import Caller, Clinic, day_after

RACERS, ROUNDS = 16, 4

OVERLAPPING = text(
    """
    SELECT count(*) FROM appointment a JOIN appointment b
      ON a.id < b.id AND (a.clinician_id = b.clinician_id OR a.patient_id = b.patient_id)
     AND a.start_at < b.end_at AND b.start_at < a.end_at
    WHERE a.status NOT IN ('cancelled', 'no_show', 'entered_in_error')
      AND b.status NOT IN ('cancelled', 'no_show', 'entered_in_error') AND NOT (a.overbooked OR b.overbooked)
      AND (a.session_id IS NULL OR a.session_id IS DISTINCT FROM b.session_id
           OR a.patient_id = b.patient_id)
    """
)
"""Live appointments of one person at one time."""

UNCLAIMED = text(
    """
    WITH wanted AS (
        SELECT id, person, kind, start_at, end_at FROM appointment
        CROSS JOIN LATERAL (
            VALUES (clinician_id, 'clinician'), (patient_id, 'patient')
            UNION ALL
            SELECT p.clinician_id, 'clinician' FROM appointment_participant p WHERE p.appointment_id = appointment.id
        ) AS v (person, kind)
        WHERE status NOT IN ('cancelled', 'no_show', 'entered_in_error')
          AND NOT ((overbooked OR session_id IS NOT NULL) AND kind = 'clinician')
    ), claimed AS (
        SELECT appointment_id, bookable_id, kind, start_at, end_at FROM allocation
        WHERE hold_id IS NULL AND session_id IS NULL AND kind IN ('clinician', 'patient')
    )
    SELECT (SELECT count(*) FROM (TABLE wanted EXCEPT TABLE claimed) AS missing)
         + (SELECT count(*) FROM (TABLE claimed EXCEPT TABLE wanted) AS left_over)
    """
)
"""Claims that live appointments lack, and claims of none."""


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

    def race(self, act: Callable[[Caller, int], TestResponse], at: str | None = None) -> list[TestResponse]:
        """Everybody acts at once, now or at another moment; the answers by racer."""
        if at is None:
            return self._run(act, self.callers)
        with self.clinic.at(at) as then:
            return self._run(act, [then(caller) for caller in self.callers])

    @staticmethod
    def _run(act: Callable[[Caller, int], TestResponse], callers: Sequence[Caller]) -> list[TestResponse]:
        barrier = Barrier(RACERS)

        def run(number: int) -> TestResponse:
            barrier.wait()
            return act(callers[number], number)

        with ThreadPoolExecutor(RACERS) as pool:
            return list(pool.map(run, range(RACERS)))


def tally(answers: Sequence[TestResponse]) -> Counter[str]:
    """How often each answer was given."""
    return Counter(
        f"{answer.status_code} {answer.get_json()['code']}" if answer.status_code >= 400 else str(answer.status_code)
        for answer in answers
    )
