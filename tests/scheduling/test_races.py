"""Sixteen people at one diary at the same moment. PostgreSQL decides; nobody waits in vain."""

from uuid import uuid4

from werkzeug.test import TestResponse

from tests.clinic import Caller, day_after
from tests.scheduling.racing import RACERS, Diary, tally


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

        assert tally(diary.race(change, at=day_after(day, "09:00"))) == {"200": 1, "412 stale": RACERS - 1}

    def test_cancelling_against_checking_in(self, diary: Diary, day: int) -> None:
        """One may check in and be cancelled then, not the other way round; nothing happens twice."""
        path = diary.booked(0, "09:00", day=day)

        def change(caller: Caller, number: int) -> TestResponse:
            return caller.post(f"{path}/check-in") if number % 2 else caller.post(f"{path}/cancel", {"reason": "flu"})

        answers = diary.race(change, at=day_after(day, "09:00"))
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
