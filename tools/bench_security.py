"""Measure what sign-in, access and trail cost: `python tools/bench_security.py`, from the project's folder.

Starts an embedded PostgreSQL with a new demo clinic in a temporary folder, and the application in this
process. Everything is measured in one run and in turns, so that other load on the machine meets all
variants alike: reads with and without authentication and trail (processor time of the program and of
PostgreSQL), bookings with and without trail (rate, with several threads).
"""

import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from flask import Flask

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from medical.app import create_app  # noqa: E402 - from this very folder
from medical.cli import demo  # noqa: E402
from medical.config import Mode  # noqa: E402
from medical.identity import keys  # noqa: E402
from medical.platform import schema  # noqa: E402
from medical.platform.db import Scope, db, enter  # noqa: E402
from medical.platform.postgres import EmbeddedPostgres  # noqa: E402
from medical.platform.web import REQUEST_ID_KEY  # noqa: E402

ROUNDS, READS, BOOKINGS, THREADS = 12, 150, 240, 16
DEMO_ADMIN = {"email": "admin@demo.example", "password": "demo admin password"}

MOST_READ_COST, LEAST_BOOKING_RATE = 1.6, 0.75
"""What is promised: an authenticated, trailed read against a bare one; bookings with against without the trail."""


class Program:
    """The application, called without a network."""

    def __init__(self, app: Flask) -> None:
        self.app, self.token = app, ""
        self.hooks = app.extensions["http"]

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        path, _, query = path.partition("?")
        raw = json.dumps(body).encode() if body is not None else b""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(raw),
            "wsgi.errors": sys.stderr,
        }
        status = []
        chunks = self.app.wsgi_app(environ, lambda line, _headers, _error=None: status.append(int(line[:3])))
        answer = b"".join(chunks)
        return status[0], json.loads(answer) if answer else None

    def made(self, path: str, body: Any) -> Any:
        """What a POST made; stops the run when it was refused."""
        status, answer = self.call("POST", path, body)
        if status not in (200, 201):
            raise SystemExit(f"POST {path} answered {status}: {answer}")
        return answer

    def sign_in(self) -> None:
        """As the demo's administrator."""
        self.token = self.made("/api/v1/auth/login", DEMO_ADMIN)["access_token"]

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Nobody is authenticated and nothing is trailed: the caller is taken for the administrator."""
        actor = self.hooks.authenticate

        def known(token: str) -> Any:
            scope = Scope(caller.organization_id, caller.user_id, None)
            enter(scope)
            return caller

        with self.app.test_request_context(environ_overrides={REQUEST_ID_KEY: "measured"}):
            enter(None)
            self.app.preprocess_request()
            caller = actor(self.token)
            db.session.rollback()
        quiet = replace(self.hooks, authenticate=known, hold=lambda actor: actor, record=lambda *_: None)
        yield from self._with(quiet)

    @contextmanager
    def untrailed(self) -> Iterator[None]:
        """All but the trail."""
        yield from self._with(replace(self.hooks, record=lambda *_: None))

    def _with(self, hooks: Any) -> Iterator[None]:
        self.app.extensions["http"] = hooks
        try:
            yield
        finally:
            self.app.extensions["http"] = self.hooks


@contextmanager
def whole(_program: Program) -> Iterator[None]:
    """The program as it is."""
    yield


@contextmanager
def clinic() -> Iterator[tuple[Program, int]]:
    """A new demo clinic, and the process id of its PostgreSQL."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            schema.migrate(server.owner_url)
            settings = {"database_url": server.app_url, "secret_key": os.urandom(32).hex(), "mode": Mode.DEMO}
            app = create_app(settings)
            logging.getLogger().setLevel(logging.WARNING)
            with app.app_context():
                keys.ensure_ring(app.extensions["settings"])
                demo.seed_if_empty()
            postmaster = int((Path(folder) / "data/postgres/postmaster.pid").read_text().splitlines()[0])
            yield Program(app), postmaster
            with app.app_context():
                db.engine.dispose()


def processor_seconds(postmaster: int) -> tuple[float, float]:
    """Used so far by this process, and by PostgreSQL with all its processes."""
    server = psutil.Process(postmaster)
    used = 0.0
    for process in [server, *server.children()]:
        times = process.cpu_times()
        used += times.user + times.system + times.children_user + times.children_system
    return time.process_time(), used


def cost_of_reads(program: Program, postmaster: int, name: str, path: str) -> bool:
    """Compare processor time with and without authentication and trail; whether the promise is kept."""
    variants: dict[str, Callable[[], Any]] = {"whole": lambda: whole(program), "bare": program.bare}
    spent: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
    for round_ in range(ROUNDS + 1):
        for variant, entered in variants.items():
            with entered():
                before = processor_seconds(postmaster)
                for _ in range(READS):
                    status, _answer = program.call("GET", path)
                    if status != 200:
                        raise SystemExit(f"GET {path} answered {status}")
                after = processor_seconds(postmaster)
            if round_:  # the first warms up
                spent[variant].append((after[0] - before[0], after[1] - before[1]))
    milliseconds = {
        variant: [statistics.median(column) * 1000 / READS for column in zip(*rounds, strict=True)]
        for variant, rounds in spent.items()
    }
    ratio = sum(milliseconds["whole"]) / sum(milliseconds["bare"])
    program_ratio = milliseconds["whole"][0] / milliseconds["bare"][0]
    for variant, (ours, postgres) in milliseconds.items():
        print(f"  {name}, {variant:5}  {ours:6.3f} ms program  {postgres:6.3f} ms PostgreSQL")
    print(f"  {name}: program {program_ratio:.2f}×, with PostgreSQL {ratio:.2f}× (promised: {MOST_READ_COST}×)")
    return program_ratio <= MOST_READ_COST


def rate_of_bookings(program: Program) -> bool:
    """Compare rates of bookings with and without the trail; whether the promise is kept."""
    bookings = plan(program)
    variants: dict[str, Callable[[], Any]] = {"with trail": lambda: whole(program), "without": program.untrailed}
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    with ThreadPoolExecutor(THREADS) as pool:
        for round_ in range(ROUNDS + 1):
            for variant, entered in variants.items():
                bodies = [next(bookings) for _ in range(BOOKINGS)]
                with entered():
                    began = time.perf_counter()
                    answers = list(pool.map(lambda body: program.call("POST", "/api/v1/appointments", body), bodies))
                    seconds = time.perf_counter() - began
                if refused := [answer for status, answer in answers if status != 201]:
                    raise SystemExit(f"a booking was refused: {refused[0]}")
                if round_:
                    rates[variant].append(BOOKINGS / seconds)
    median = {variant: statistics.median(found) for variant, found in rates.items()}
    kept = median["with trail"] / median["without"]
    for variant, rate in median.items():
        print(f"  bookings {variant:10}  {rate:6.0f} a second, {THREADS} threads")
    print(f"  bookings: {kept:.0%} of the rate without the trail (promised: {LEAST_BOOKING_RATE:.0%})")
    return kept >= LEAST_BOOKING_RATE


def plan(program: Program) -> Iterator[dict[str, Any]]:
    """Bookings that go through, of eight clinicians who are always there, each for another patient."""
    kind = program.made(
        "/api/v1/appointment-types", {"name": "Five minutes", "duration_minutes": 5, "horizon_days": 500}
    )["id"]
    people = []
    for number in range(8):
        name = {"given_name": f"Given{number}", "family_name": f"Family{number}"}
        user = program.made("/api/v1/users", name | {"email": f"bench{number}@bench.example", "roles": ["clinician"]})[
            "id"
        ]
        program.made("/api/v1/clinicians", {"user_id": user, "specialty": "Benchmarks", "time_zone": "UTC"})
        hours = {"clinician_id": user, "weekdays": [1, 2, 3, 4, 5, 6, 7], "start_time": "00:00", "end_time": "00:00"}
        program.made("/api/v1/availabilities", hours)
        born = {"birth_date": f"1970-01-0{number + 1}", "sex": "unknown", "confirm_new": True}
        people.append((user, program.made("/api/v1/patients", name | born)["id"]))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
    for number in count():
        turn, (user, patient) = number // len(people), people[number % len(people)]
        start = (midnight + timedelta(minutes=5 * turn)).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield {"patient_id": patient, "clinician_id": user, "appointment_type_id": kind, "start": start}


def main() -> None:
    """Print the figures; exit with 1 when a promise is not kept."""
    with clinic() as (program, postmaster):
        program.sign_in()
        _, page = program.call("GET", "/api/v1/appointments?limit=50")
        patient = page["items"][0]["patient_id"]
        print(f"{ROUNDS} rounds in turns, medians; Python {sys.version.split()[0]}")
        kept = [
            cost_of_reads(program, postmaster, "one patient", f"/api/v1/patients/{patient}"),
            cost_of_reads(program, postmaster, "50 appointments", "/api/v1/appointments?limit=50"),
            rate_of_bookings(program),
        ]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
