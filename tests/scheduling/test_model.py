"""The whole engine, over HTTP, against a diary on paper: any sequence of acts leads both to the same.

The histories are the same in every run; ``HISTORIES=1000`` asks for more of them.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from werkzeug.test import TestResponse

from medical.platform.db import Scope, db, scoped
from tests.clinic import Clinic, day_after
from tests.scheduling.paper import CLINICIANS, GRID, MOVES, OPEN, PATIENTS, Claimant, Codes, Entry, Kind, Paper
from tests.scheduling.racing import OVERLAPPING

MORNING = 8 * 60
REASONED = {"cancel", "decline", "reinstate", "enter-in-error"}
KINDS = (
    Kind("plain"),
    Kind("long", minutes=60, before=10, after=15),
    Kind("asked", approval=True, notice=60),
    Kind("roomy", minutes=45, after=15, room=True),
    Kind("rare", a_day=1),
)
starts = st.integers(OPEN.start // GRID - 1, OPEN.stop // GRID + 2).map(lambda n: n * GRID)
clinicians, patients = st.integers(0, CLINICIANS - 1), st.integers(0, PATIENTS - 1)
kinds = st.sampled_from(KINDS)
picks = st.integers(0, 30)


class Surgery:
    """Two clinicians at a site with one room; each history has a day and patients of its own."""

    def __init__(self, app: Flask) -> None:
        self.clinic, self.days = Clinic(app), itertools.count(3)
        site = self.clinic.location(time_zone="UTC")
        self.clinic.room(site)
        self.clinicians = [
            self.clinic.clinician(time_zone="UTC", location_id=site["id"], specialty="Model") for _ in range(CLINICIANS)
        ]
        for one in self.clinicians:
            self.clinic.hours(one, start_time="09:00", end_time="12:00", location_id=site["id"])
        self.kinds = {
            kind: self.clinic.appointment_type(
                name=kind.name,
                duration_minutes=kind.minutes,
                grid_minutes=GRID,
                buffer_before_minutes=kind.before,
                buffer_after_minutes=kind.after,
                min_notice_minutes=kind.notice,
                needs_approval=kind.approval,
                needs_room=kind.room,
                max_per_day=kind.a_day,
            )["id"]
            for kind in KINDS
        }


def codes_of(answer: TestResponse) -> Codes:
    """Every reason of a refusal; none when it went through."""
    if answer.status_code < 300:
        return set()
    assert answer.status_code == 409, answer.text
    told = answer.get_json()
    return {one["code"] for one in told["reasons"]} if "reasons" in told else {told["code"]}


def machine_in(surgery: Surgery) -> type[RuleBasedStateMachine]:
    """Histories of one day there."""

    class Histories(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.day = next(surgery.days)
            self.paper = Paper(MORNING)
            self.ids: dict[int, str] = {}
            self.looked_at = itertools.cycle(KINDS)
            self.present = ExitStack()
            self.desk = surgery.clinic.admin
            self.set_clock()
            self.patients = [self.registered(number) for number in range(PATIENTS)]

        def registered(self, number: int) -> str:
            person = {"given_name": "Pat", "family_name": f"History {self.day} {number}", "confirm_new": True}
            answer = self.desk.post("/patients", person | {"birth_date": "1980-05-17", "sex": "female"})
            return str(answer.get_json()["id"])

        def set_clock(self) -> None:
            self.present.close()
            then = self.present.enter_context(surgery.clinic.at(self.at(self.paper.now)))
            self.desk = then(surgery.clinic.admin)

        def at(self, minute: int) -> str:
            return day_after(self.day, f"{minute // 60:02}:{minute % 60:02}")

        def visit(self, clinician: int, kind: Kind, start: int) -> dict[str, Any]:
            return {
                "clinician_id": surgery.clinicians[clinician].id,
                "appointment_type_id": surgery.kinds[kind],
                "start": self.at(start),
            }

        def made(self, made: Claimant | Entry, answer: TestResponse) -> None:
            self.ids[id(made)] = answer.get_json()["id"]

        @rule(clinician=clinicians, patient=patients, kind=kinds, start=starts)
        def book(self, clinician: int, patient: int, kind: Kind, start: int) -> None:
            body = self.visit(clinician, kind, start) | {"patient_id": self.patients[patient]}
            answer = self.desk.post("/appointments", body)
            assert codes_of(answer) == self.paper.book(clinician, patient, kind, start)
            if answer.status_code == 201:
                self.made(self.paper.visits[-1], answer)

        @rule(clinician=clinicians, kind=kinds, start=starts)
        def hold(self, clinician: int, kind: Kind, start: int) -> None:
            answer = self.desk.post("/holds", self.visit(clinician, kind, start))
            assert codes_of(answer) == self.paper.hold(clinician, kind, start)
            if answer.status_code == 201:
                self.made(self.paper.holds[-1], answer)

        def own_holds(self) -> Sequence[Claimant]:
            return [hold for hold in self.paper.holds if id(hold) in self.ids]

        @precondition(own_holds)
        @rule(pick=picks, patient=patients)
        def book_held(self, pick: int, patient: int) -> None:
            hold = self.own_holds()[pick % len(self.own_holds())]
            body = self.visit(hold.clinician, hold.kind, hold.start) | {"patient_id": self.patients[patient]}
            answer = self.desk.post("/appointments", body | {"hold_id": self.ids[id(hold)]})
            assert codes_of(answer) == self.paper.book_held(hold, patient)
            if answer.status_code == 201:
                self.made(self.paper.visits[-1], answer)

        @precondition(own_holds)
        @rule(pick=picks)
        def give_up(self, pick: int) -> None:
            hold = self.own_holds()[pick % len(self.own_holds())]
            answer = self.desk.delete(f"/holds/{self.ids[id(hold)]}")
            assert answer.status_code == 204 or not self.paper.is_held(hold), answer.text
            self.paper.holds.remove(hold)

        @precondition(lambda self: self.paper.visits)
        @rule(pick=picks, act=st.sampled_from([*MOVES]))
        def act(self, pick: int, act: str) -> None:
            visit = self.paper.visits[pick % len(self.paper.visits)]
            body = {"reason": "flu"} if act in REASONED else None
            answer = self.desk.post(f"/appointments/{self.ids[id(visit)]}/{act}", body)
            assert codes_of(answer) == self.paper.act(visit, act)

        @precondition(lambda self: self.paper.visits)
        @rule(pick=picks, clinician=clinicians, start=starts)
        def move(self, pick: int, clinician: int, start: int) -> None:
            visit = self.paper.visits[pick % len(self.paper.visits)]
            body = {"clinician_id": surgery.clinicians[clinician].id, "start": self.at(start)}
            answer = self.desk.post(f"/appointments/{self.ids[id(visit)]}/reschedule", body)
            assert codes_of(answer) == self.paper.move(visit, clinician, start)

        @rule(clinician=clinicians, start=starts, noun=st.sampled_from(["time-offs", "openings"]))
        def change_hours(self, clinician: int, start: int, noun: str) -> None:
            body = {
                "clinician_id": surgery.clinicians[clinician].id,
                "start": self.at(start),
                "end": self.at(start + 30),
            }
            answer = self.desk.post(f"/{noun}", body)
            assert answer.status_code == 201, answer.text
            kept = self.paper.off if noun == "time-offs" else self.paper.extra
            kept.append((clinician, range(start, start + 30)))

        @rule(patient=patients, kind=kinds)
        def wait(self, patient: int, kind: Kind) -> None:
            body = {
                "patient_id": self.patients[patient],
                "appointment_type_id": surgery.kinds[kind],
                "from": self.at(0),
                "to": day_after(self.day + 1),
            }
            answer = self.desk.post("/waitlist", body)
            assert codes_of(answer) == self.paper.wait(patient, kind)
            if answer.status_code == 201:
                self.made(self.paper.entries[-1], answer)

        @precondition(lambda self: self.paper.entries)
        @rule(pick=picks, reply=st.sampled_from(["accept", "decline", "withdraw"]))
        def reply(self, pick: int, reply: str) -> None:
            entry = self.paper.entries[pick % len(self.paper.entries)]
            replies: dict[str, Callable[[Entry], Codes]] = {
                "accept": self.paper.accept,
                "decline": self.paper.decline,
                "withdraw": self.paper.withdraw,
            }
            answer = self.desk.post(f"/waitlist/{self.ids[id(entry)]}/{reply}")
            assert codes_of(answer) == replies[reply](entry)
            if answer.status_code < 300 and reply == "accept":
                self.made(self.paper.visits[-1], answer)

        @rule(minutes=st.sampled_from([1, 4, 5, 30, 90]))
        def let_time_pass(self, minutes: int) -> None:
            self.paper.now = min(self.paper.now + minutes, 20 * 60)
            self.set_clock()

        @invariant()
        def search_offers_what_is_free(self) -> None:
            kind = next(self.looked_at)
            query = {"appointment_type_id": surgery.kinds[kind], "from_": self.at(0), "to": day_after(self.day + 1)}
            answer = self.desk.get("/slots", limit=100, **query)
            offered = {(one["clinician_id"], one["start"]) for one in answer.get_json()["items"]}
            free = {(surgery.clinicians[one].id, self.at(start)) for one, start in self.paper.free(kind)}
            assert offered == free, kind

        @invariant()
        def the_agenda_is_as_on_paper(self) -> None:
            page = self.desk.get("/appointments", limit=100, from_=self.at(0), to=day_after(self.day + 1)).get_json()
            there = {one["id"]: (one["status"], one["clinician_id"], one["start"]) for one in page["items"]}
            assert there == {
                self.ids[id(one)]: (one.status, surgery.clinicians[one.clinician].id, self.at(one.start))
                for one in self.paper.visits
            }

        @invariant()
        def those_who_wait_are_offered_the_same(self) -> None:
            for entry in self.paper.entries[-3:]:
                offer = self.desk.get(f"/waitlist/{self.ids[id(entry)]}").get_json()["offer"]
                wanted = entry.offer if entry in self.paper.offering() else None
                assert (offer and (offer["clinician_id"], offer["start"])) == (
                    wanted and (surgery.clinicians[wanted.clinician].id, self.at(wanted.start))
                )

        def teardown(self) -> None:
            self.present.close()
            with surgery.clinic.app.app_context(), scoped(Scope(surgery.clinic.organization_id)):
                assert db.session.scalar(OVERLAPPING) == 0
                db.session.rollback()

    return Histories


@pytest.mark.timeout(0)  # as many histories as are asked for
def test_any_history_is_as_on_paper(app: Flask) -> None:
    many = settings(
        max_examples=int(os.environ.get("HISTORIES", "8")),
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(machine_in(Surgery(app)), settings=many)
