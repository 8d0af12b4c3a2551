"""Bookings while what serves them is killed: what a client was told is so, and nothing is half done."""

import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from medical.cli.demo import clinic
from medical.identity.permissions import Role
from tests.cli.program import Program, folder, medical, until
from tests.conftest import Prepare

CALLERS, TIMES, KILLS = 8, 60, 3
RIVALS = 2
"""So many patients want each time."""
AWAY = 503
"""How a server answers that cannot reach its database."""

Kill = Callable[[Program], None]


class Wish(NamedTuple):
    """A booking that somebody wants, however often it takes to ask."""

    key: str
    body: dict[str, Any]


class Desk:
    """The demo clinic's receptionist, over HTTP."""

    def __init__(self, program: Program) -> None:
        self.program = program
        account = {"email": clinic.email_of(Role.RECEPTIONIST), "password": clinic.password_of(Role.RECEPTIONIST)}
        status, body = program.call("POST", "/api/v1/auth/login", account)
        assert status == 200, body
        self.headers = {"Authorization": f"Bearer {json.loads(body)['access_token']}"}

    def get(self, path: str) -> Any:
        """What is there."""
        status, body = self.program.call("GET", f"/api/v1{path}", **self.headers)
        assert status == 200, body
        return json.loads(body)

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """All there are, from all pages."""
        page = self.get(f"{path}&limit=100")
        yield from page["items"]
        while page["next"]:
            page = self.get(f"{path}&limit=100&cursor={page['next']}")
            yield from page["items"]

    def book(self, wish: Wish) -> tuple[int, dict[str, Any]]:
        """Status and answer, asked for until there is one."""
        answer: tuple[int, dict[str, Any]] = until(lambda: self.ask(wish), "an answer")
        return answer

    def ask(self, wish: Wish) -> tuple[int, dict[str, Any]] | None:
        """The same, asked for once; None while nobody answers, or only that the database is away."""
        try:
            status, body = self.program.call(
                "POST", "/api/v1/appointments", wish.body, Idempotency_Key=wish.key, **self.headers
            )
        except (OSError, http.client.HTTPException):
            return None
        return None if status == AWAY else (status, json.loads(body))


def wishes(desk: Desk, span: str) -> list[Wish]:
    """For each of many free times, no two of which overlap, some patients who want it, each with one wish a day."""
    kind = next(one["id"] for one in desk.items("/appointment-types?") if one["name"] == "Consultation")
    patients = [one["id"] for one in desk.items("/patients?")]
    slots = list(itertools.islice(desk.items(f"/slots?appointment_type_id={kind}&{span}"), TIMES))
    assert len(slots) == TIMES
    wanted = itertools.cycle(patients)
    return [
        Wish(
            f"{span}-{number}-{rival}",
            {
                "appointment_type_id": kind,
                "clinician_id": slot["clinician_id"],
                "start": slot["start"],
                "patient_id": next(wanted),
            },
        )
        for number, slot in enumerate(slots)
        for rival in range(RIVALS)
    ]


def kill_worker(program: Program) -> None:
    """One of those that answer requests, at once."""
    program.workers()[0].kill()


def kill_postgres(program: Program) -> None:
    """The whole server; the program starts it again."""
    server = until(program.postgres, "a server to kill")
    server.kill()
    until(lambda: (program.postgres() or server).pid != server.pid, "another server")


def kill_backend(program: Program) -> None:
    """One connection's process: PostgreSQL ends all others and goes through its log again."""
    server = until(program.postgres, "a server to shoot at")
    next(one for one in server.children() if "[local]" in " ".join(one.cmdline())).kill()


@pytest.fixture(scope="module")
def program(prepared: Prepare) -> Iterator[Program]:
    """The demo clinic, served by two workers."""
    with folder() as place, Program(prepared(place / "data"), "--demo", "--workers", "2").ready() as running:
        yield running


@pytest.mark.parametrize(("kill", "days"), [(kill_worker, 40), (kill_postgres, 70), (kill_backend, 100)])
def test_what_was_answered_is_there_and_nothing_else(program: Program, kill: Kill, days: int) -> None:
    desk = Desk(program)
    first = datetime.now(UTC) + timedelta(days=days)
    span = f"from={first:%Y-%m-%dT00:00:00Z}&to={first + timedelta(days=30):%Y-%m-%dT00:00:00Z}"
    assert list(desk.items(f"/appointments?{span}")) == []
    wanted = wishes(desk, span)
    answers = storm(program, desk, wanted, kill)

    assert Counter(status for status, _ in answers) == {201: TIMES, 409: TIMES * (RIVALS - 1)}
    there = {one["id"]: one for one in desk.items(f"/appointments?{span}")}
    assert there == {answer["id"]: answer for status, answer in answers if status == 201}
    for person in ("clinician_id", "patient_id"):
        busy = sorted((one[person], one["start"], one["end"]) for one in there.values())
        assert all(a[0] != b[0] or a[2] <= b[1] for a, b in itertools.pairwise(busy))
    again = [desk.book(wish) for wish in wanted]
    assert [(status, answer.get("id")) for status, answer in again] == [
        (status, answer.get("id")) for status, answer in answers
    ]
    assert len(list(desk.items(f"/appointments?{span}"))) == TIMES
    verified = medical("audit", "verify", "--data", str(program.data))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def storm(program: Program, desk: Desk, wanted: list[Wish], kill: Kill) -> list[tuple[int, dict[str, Any]]]:
    """The answers to all wishes, while something is killed again and again among them."""
    answered = itertools.count(1)
    due = [len(wanted) * number // (KILLS + 1) for number in range(1, KILLS + 1)]
    turn = {number: threading.Event() for number in due}

    def ask(wish: Wish) -> tuple[int, dict[str, Any]]:
        answer = desk.book(wish)
        if event := turn.get(next(answered)):
            event.set()
        return answer

    with ThreadPoolExecutor(CALLERS) as pool:
        answers = pool.map(ask, wanted)
        for event in turn.values():
            event.wait()
            kill(program)
        return list(answers)
