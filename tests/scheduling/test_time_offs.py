"""Time off is planned: what it hits, where that could be instead, and then all that was decided or nothing."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from tests.clinic import Caller, Clinic, Statements, day_after
from tests.scheduling.practice import NOBODY, Practice, code_of
from tests.scheduling.racing import Diary


class Planner:
    """A practice whose clinician is to be away on the third day from now, from ten to twelve."""

    def __init__(self, clinic: Clinic) -> None:
        self.practice, self.clinic = Practice(clinic), clinic

    def post(
        self, *decisions: dict[str, Any], by: Caller | None = None, dry: bool = False, **given: Any
    ) -> TestResponse:
        """Take the time off."""
        body = {
            "clinician_id": self.practice.clinician.id,
            "start": day_after(3, "10:00"),
            "end": day_after(3, "12:00"),
        }
        body |= {"decisions": list(decisions)} if decisions else {}
        return (by or self.practice.desk).post("/time-offs" + "?dry_run=true" * dry, body | given)

    def proposed(self, **given: Any) -> list[list[tuple[str, str]]]:
        """With whom, and when, each that is hit could be instead."""
        answer = self.post(dry=True, **given)
        assert answer.status_code == 201, answer.text
        return [
            [(time["clinician_id"], time["start"]) for time in visit["proposed"]]
            for visit in answer.get_json()["affected"]
        ]

    def booked(self, at: str, **given: Any) -> dict[str, Any]:
        """An appointment of a patient of its own."""
        return self.practice.booked(at, **({"patient_id": self.clinic.patient()["id"]} | given))

    def reads(self, visit: dict[str, Any]) -> tuple[str, str, str]:
        """What became of it."""
        now = self.practice.read(visit)
        return now["status"], now["clinician_id"], now["start"]

    def offs(self) -> int:
        """How much time off there is."""
        return len(self.practice.desk.get("/time-offs", clinician_id=self.practice.clinician.id).get_json()["items"])


@pytest.fixture
def planner(clinic: Clinic) -> Planner:
    """A practice whose clinician wants to be away."""
    return Planner(clinic)


def move(visit: dict[str, Any], **to: Any) -> dict[str, Any]:
    return {"appointment_id": visit["id"], "action": "move"} | to


def cancel(visit: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {"appointment_id": visit["id"], "action": "cancel", "reason": "away"} | given


class TestDryRun:
    """What it would hit is named, and where that could be; nothing changes."""

    def test_the_nearest_times_are_proposed(self, planner: Planner) -> None:
        planner.booked("10:00")
        me = planner.practice.clinician.id
        times = [(me, day_after(3, at)) for at in ("09:30", "09:00", "12:00")]
        assert planner.proposed() == [times]

    def test_none_is_proposed_first_to_two(self, planner: Planner) -> None:
        for at in ("10:00", "10:30", "11:00", "11:30"):
            planner.booked(at)
        firsts = [times[0] for times in planner.proposed()]
        assert [start[11:16] for _, start in firsts] == ["09:30", "09:00", "12:00", "12:30"]

    def test_a_colleague_who_is_free_then_comes_first(self, planner: Planner) -> None:
        colleague, other = planner.clinic.clinician(time_zone="UTC"), planner.clinic.clinician(specialty="Dermatology")
        for one in (colleague, other):
            planner.clinic.hours(one)
        planner.booked("10:00")
        planner.booked("10:00", clinician_id=colleague.id)
        me = planner.practice.clinician.id
        near = [
            (me, day_after(3, "09:30")),
            (colleague.id, day_after(3, "09:30")),
            (colleague.id, day_after(3, "10:30")),
        ]
        assert planner.proposed() == [near]

    def test_times_of_which_the_patient_has_something_else_are_not(self, planner: Planner) -> None:
        colleague = planner.clinic.clinician(time_zone="UTC", specialty="Dermatology")
        planner.clinic.hours(colleague)
        visit = planner.booked("10:00")
        planner.booked("09:30", clinician_id=colleague.id, patient_id=visit["patient_id"])
        [times] = planner.proposed()
        assert times[0] == (planner.practice.clinician.id, day_after(3, "09:00"))

    def test_on_full_days_there_are_none(self, planner: Planner) -> None:
        kind = planner.clinic.appointment_type(max_per_day=2)["id"]
        planner.booked("10:00", appointment_type_id=kind)
        for at in ("09:00", "16:00"):
            planner.booked(at, appointment_type_id=planner.practice.kind["id"])
        [times] = planner.proposed()
        assert [start for _, start in times] == [day_after(3, at) for at in ("09:30", "12:00", "12:30")]
        for at in ("13:00", "14:00"):
            answer = planner.practice.book(
                at, day=4, appointment_type_id=kind, patient_id=planner.clinic.patient()["id"]
            )
            assert answer.status_code == 201
        _, times, _ = planner.proposed(start=day_after(3, "08:00"), end=day_after(3, "23:00"))
        assert {start[:10] for _, start in times} == {day_after(2)[:10]}

    def test_nothing_changes_and_the_trail_says_so(self, planner: Planner) -> None:
        own, patient = planner.clinic.patient_with_account()
        visit = planner.booked("10:00", patient_id=own["id"])
        answer = planner.post(dry=True).get_json()
        assert (answer["id"], answer["dry_run"], answer["others_affected"]) == (None, True, 0)
        [hit] = answer["affected"]
        assert hit | {"proposed": []} == visit | {"action": "keep", "proposed": []}
        assert planner.offs() == 0
        assert "10:30" in planner.practice.free()
        entry = patient.get(f"/patients/{own['id']}/access-log").get_json()["items"][0]
        assert entry["action"] == "time-off.created"
        assert "changed nothing" in entry["what"]

    def test_a_clinician_who_only_takes_part_is_away_too(self, planner: Planner) -> None:
        other = planner.clinic.clinician(time_zone="UTC")
        planner.clinic.hours(other)
        planner.booked("10:00", with_clinician_ids=[other.id])
        [times] = planner.proposed(clinician_id=other.id)
        assert [start for _, start in times] == [day_after(3, at) for at in ("09:30", "09:00", "12:00")]

    def test_what_has_begun_or_waits_for_approval_has_no_other_time(self, planner: Planner) -> None:
        kind = planner.clinic.appointment_type(needs_approval=True)
        planner.booked("10:00", appointment_type_id=kind["id"])
        assert planner.proposed() == [[]]

    def test_decisions_are_not_carried_out(self, planner: Planner) -> None:
        visit = planner.booked("10:00")
        answer = planner.post(cancel(visit), dry=True)
        assert code_of(answer) == (422, "invalid_request")
        assert planner.reads(visit)[0] == "booked"

    def test_costs_as_many_statements_for_many_as_for_one(self, planner: Planner, statements: Statements) -> None:
        planner.booked("10:00")
        statements.clear()
        planner.proposed()
        one = statements.count
        for at in ("10:30", "11:00", "11:30"):
            planner.booked(at)
        statements.clear()
        assert len(planner.proposed()) == 4
        assert statements.count == one


class TestDecisions:
    """What was decided is done with the time off, in one transaction."""

    def test_each_is_moved_kept_or_cancelled_as_told(self, planner: Planner) -> None:
        colleague = planner.clinic.clinician(time_zone="UTC")
        planner.clinic.hours(colleague)
        moved, handed, kept, cancelled = (planner.booked(at) for at in ("10:00", "10:30", "11:00", "11:30"))
        keep = {"appointment_id": kept["id"], "action": "keep"}
        answer = planner.post(
            move(moved, start=day_after(4, "15:00"), version=moved["version"]),
            move(handed, clinician_id=colleague.id, reason="away"),
            keep,
            cancel(cancelled),
        )
        assert answer.status_code == 201, answer.text
        me = planner.practice.clinician.id
        assert planner.reads(moved) == ("booked", me, day_after(4, "15:00"))
        assert planner.reads(handed) == ("booked", colleague.id, day_after(3, "10:30"))
        assert planner.reads(kept) == ("booked", me, day_after(3, "11:00"))
        assert planner.reads(cancelled) == ("cancelled", me, day_after(3, "11:30"))
        found = {
            visit["id"]: (visit["action"], visit["status"], visit["start"]) for visit in answer.get_json()["affected"]
        }
        assert found == {
            moved["id"]: ("move", "booked", day_after(4, "15:00")),
            handed["id"]: ("move", "booked", day_after(3, "10:30")),
            kept["id"]: ("keep", "booked", day_after(3, "11:00")),
            cancelled["id"]: ("cancel", "cancelled", day_after(3, "11:30")),
        }
        assert planner.offs() == 1

    def test_all_first_proposals_can_be_had_together(self, planner: Planner) -> None:
        for at in ("10:00", "10:30", "11:00", "11:30"):
            planner.booked(at)
        hits = planner.post(dry=True).get_json()["affected"]
        firsts = [{name: hit["proposed"][0][name] for name in ("start", "clinician_id")} for hit in hits]
        answer = planner.post(*(move(hit, **first) for hit, first in zip(hits, firsts, strict=True)))
        assert answer.status_code == 201, answer.text
        assert [visit["start"] for visit in answer.get_json()["affected"]] == [first["start"] for first in firsts]

    def test_one_that_cannot_be_done_undoes_all(self, planner: Planner) -> None:
        first, second, third = (planner.booked(at) for at in ("10:00", "10:30", "11:00"))
        planner.booked("09:00", day=4)
        answer = planner.post(
            move(first, start=day_after(4, "09:00")),
            cancel(second, version=9),
            move(third, start=day_after(4, "10:00")),
        )
        assert code_of(answer) == (409, "decisions_refused")
        refused = {
            one["appointment_id"]: [why["code"] for why in one["reasons"]] for one in answer.get_json()["refused"]
        }
        assert refused == {first["id"]: ["slot_taken"], second["id"]: ["stale"]}
        for visit in (first, second, third):
            assert planner.reads(visit) == ("booked", visit["clinician_id"], visit["start"])
        assert planner.offs() == 0

    def test_into_the_time_off_nothing_is_moved(self, planner: Planner) -> None:
        answer = planner.post(move(planner.booked("10:00"), start=day_after(3, "11:00")))
        [refused] = answer.get_json()["refused"]
        assert [why["code"] for why in refused["reasons"]] == ["outside_availability"]

    def test_what_is_cancelled_makes_room_for_what_is_moved(self, planner: Planner) -> None:
        kind = planner.clinic.appointment_type(max_per_patient=1)["id"]
        first = planner.booked("10:00", appointment_type_id=kind)
        second = planner.booked("10:30", patient_id=first["patient_id"])
        answer = planner.post(move(second, start=day_after(3, "09:30")), cancel(first))
        assert answer.status_code == 201, answer.text

    def test_what_it_does_not_hit_is_not_decided_of(self, planner: Planner) -> None:
        beside = planner.booked("14:00")
        answer = planner.post(cancel(beside), move({"id": NOBODY}, start=day_after(4, "09:00")))
        assert code_of(answer) == (422, "invalid_request")
        assert [one["pointer"] for one in answer.get_json()["errors"]] == [
            "/decisions/0/appointment_id",
            "/decisions/1/appointment_id",
        ]
        assert planner.reads(beside)[0] == "booked"
        assert planner.offs() == 0

    def test_every_problem_is_named(self, planner: Planner) -> None:
        visit = planner.booked("10:00")
        bad = {"appointment_id": visit["id"], "action": "cancel", "start": day_after(4, "09:00")}
        answer = planner.post(move(visit), bad)
        assert sorted(one["pointer"] for one in answer.get_json()["errors"]) == [
            "/decisions/0/start",
            "/decisions/1/appointment_id",
            "/decisions/1/reason",
            "/decisions/1/start",
        ]

    def test_who_may_not_move_appointments_does_not(self, planner: Planner) -> None:
        visit = planner.booked("10:00")
        program = planner.clinic.program("availability:edit", "appointment:cancel")
        assert code_of(planner.post(move(visit, start=day_after(4, "09:00")), by=program)) == (403, "forbidden")
        assert code_of(planner.post(cancel(visit), by=program)) == (422, "invalid_request"), "it sees it not"
        other = planner.clinic.clinician(time_zone="UTC")
        assert code_of(planner.post(cancel(visit), by=other)) == (403, "not_your_diary")
        assert planner.reads(visit)[0] == "booked"

    def test_the_patient_reads_what_was_done(self, planner: Planner) -> None:
        people = [planner.clinic.patient_with_account() for _ in range(3)]
        visits = [
            planner.booked(at, patient_id=own["id"])
            for at, (own, _) in zip(("10:00", "10:30", "11:00"), people, strict=True)
        ]
        answer = planner.post(
            move(visits[0], start=day_after(4, "09:00")), cancel(visits[1]), by=planner.practice.clinician
        )
        assert answer.status_code == 201, answer.text
        logs = [
            [entry["action"] for entry in account.get(f"/patients/{own['id']}/access-log").get_json()["items"]]
            for own, account in people
        ]
        told = [[action for action in log if action.startswith(("appointment.", "time-off."))] for log in logs]
        assert [log[:2] for log in told] == [
            ["time-off.created", "appointment.rescheduled"],
            ["time-off.created", "appointment.cancelled"],
            ["time-off.created", "appointment.booked"],
        ]

    def test_the_freed_time_of_who_took_part_is_offered_once_all_has_moved(self, planner: Planner) -> None:
        """A patient waits for the other clinician's time: they are not given what the plan itself needs."""
        other = planner.clinic.clinician(time_zone="UTC")
        planner.clinic.hours(other)
        first = planner.booked("10:00", with_clinician_ids=[other.id])
        second = planner.booked("10:30")
        waiting = planner.practice.desk.post(
            "/waitlist",
            {
                "patient_id": planner.clinic.patient()["id"],
                "appointment_type_id": planner.practice.kind["id"],
                "clinician_ids": [other.id],
                "from": day_after(3),
                "to": day_after(4),
            },
        ).get_json()
        answer = planner.post(cancel(first), move(second, clinician_id=other.id, start=day_after(3, "10:00")))
        assert answer.status_code == 201, answer.text
        assert planner.reads(second) == ("booked", other.id, day_after(3, "10:00"))
        assert planner.practice.desk.get(f"/waitlist/{waiting['id']}").get_json()["offer"] is None

    def test_a_room_is_taken_with_the_new_time(self, clinic: Clinic) -> None:
        site = clinic.location(time_zone="UTC")
        clinic.room(site)
        doctors = [clinic.clinician(time_zone="UTC", location_id=site["id"]) for _ in range(2)]
        for doctor in doctors:
            clinic.hours(doctor)
        kind = clinic.appointment_type(needs_room=True)
        desk = clinic.user(Role.RECEPTIONIST)
        visit = clinic.appointment(clinic.patient(), doctors[0], kind, day_after(3, "10:00"))
        clinic.appointment(clinic.patient(), doctors[1], kind, day_after(3, "14:00"))
        off = {"clinician_id": doctors[0].id, "start": day_after(3, "10:00"), "end": day_after(3, "12:00")}
        to = move(visit, start=day_after(3, "14:00"))
        refused = desk.post("/time-offs", off | {"decisions": [to]})
        assert [why["code"] for why in refused.get_json()["refused"][0]["reasons"]] == ["room_taken"]
        assert desk.post("/time-offs", off | {"decisions": [to | {"start": day_after(3, "15:00")}]}).status_code == 201


def test_time_off_that_moves_a_visit_against_those_who_want_its_new_time(diary: Diary, day: int) -> None:
    """Either all of it comes about or none; whoever is told that a time is theirs has it."""
    visit = diary.booked(0, "10:00", day=day)
    new_time = {"start": day_after(day, "14:00"), "clinician_id": diary.clinicians[1].id}
    off = {
        "clinician_id": diary.clinicians[0].id,
        "start": day_after(day, "10:00"),
        "end": day_after(day, "12:00"),
        "decisions": [move({"id": visit.rpartition("/")[2]}, **new_time)],
    }

    def act(caller: Caller, number: int) -> TestResponse:
        if number % 4 == 1:
            return caller.post("/time-offs", off)
        if number % 4 == 2:
            return caller.post("/appointments", diary.body(number, "11:00", day=day))
        return caller.post("/appointments", diary.body(number, "14:00", 1, day=day))

    answers = diary.race(act)
    assert {answer.status_code for answer in answers} <= {201, 409, 422}
    taken = [answer.get_json() for answer in answers[1::4] if answer.status_code == 201]
    now = diary.clinic.admin.get(visit).get_json()
    assert len(taken) == ((now["start"], now["clinician_id"]) == (new_time["start"], new_time["clinician_id"]))
    assert len(taken) + sum(answer.status_code == 201 for answer in answers[::4] + answers[3::4]) == 1
    inside = {answer.get_json()["id"] for answer in answers[2::4] if answer.status_code == 201}
    assert all(inside <= {hit["id"] for hit in off["affected"]} for off in taken), "nobody is overlooked"
