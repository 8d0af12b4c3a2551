"""LOG-01, LOG-02: what is entered, and every secret, stays out of all that the program and PostgreSQL write.

Each personal field of each input, found in the declarations of the routes, gets a value of its own; then the
routes are called, rightly and wrongly, and every layer is made to fail with those values in its mouth.
"""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin
from uuid import uuid4

import msgspec
import psycopg
import pytest
from flask import Flask
from msgspec import Struct
from sqlalchemy import text

from medical.app import create_app
from medical.config import LogFormat, Mode, Settings
from medical.identity import keys
from medical.identity.permissions import Role
from medical.people import service as people
from medical.platform import db as database
from medical.platform import http, metrics
from medical.platform import logging as program_logging
from medical.platform.db import db
from medical.platform.http import declared_routes
from medical.platform.logging import Printer, get_logger
from medical.platform.postgres import EmbeddedPostgres
from medical.platform.web import HEADERS
from medical.platform.wire import Input, value_problems
from medical.platform.zones import TimeZone
from medical.scheduling.hours_schemas import Country, Subdivision
from medical.scheduling.schemas import LocalTime
from tests.cli.program import environment, folder
from tests.clinic import PASSWORD, Caller, Clinic, second_factor
from tests.conftest import SECRET, Prepare, psycopg_url
from tests.system.test_access import TABLE, World, route_of

CONTROL = f"control-{uuid4().hex}"
"""Put into every channel on purpose: a channel where it is not found is not being read."""
NOBODY = str(uuid4())
CHOICES = (LocalTime, TimeZone, Country, Subdivision)
"""Texts that say nothing of a person and take no canary."""
ALSO_PERSONAL = ("birth",)
"""Parts of the names of dates that are about a person."""


class Canaries:
    """A value of its own for each personal field, by the place of the field."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._numbers = count(1)

    def filled(self, kind: type[Struct], place: str = "") -> dict[str, Any]:
        """A body or query of ``kind`` with a canary in every personal field, and in those of its parts."""
        place = place or kind.__name__
        found = {}
        for field in msgspec.structs.fields(kind):
            value = self._value(field.type, f"{place}.{field.encode_name}")
            if value is not None:
                found[field.encode_name] = value
        return found

    def _value(self, kind: Any, place: str) -> Any:
        """A value with canaries in it, or None where nothing is personal."""
        for member in members(kind):
            bare = get_args(member)[0] if get_origin(member) is Annotated else member
            if isinstance(bare, type) and issubclass(bare, Struct):
                return self.filled(bare, place)
            if get_origin(bare) is list:
                inner = self._value(get_args(bare)[0], place)
                return [inner] if inner else None
            if bare is date and any(part in place for part in ALSO_PERSONAL):
                return self._noted(place, str(date(1901, 2, 3) + timedelta(days=next(self._numbers))))
            if bare is str and not any(choice in (kind, member) for choice in CHOICES):
                return self._text(member, place)
        return None

    def _text(self, kind: Any, place: str) -> str:
        number = next(self._numbers)
        word = f"canary{number}x{uuid4().hex[:12]}"
        for form in (
            word,
            f"{word}@example.org",
            f"+49 8{number:04}{uuid4().int % 10**7:07}",
            f"{uuid4().int % 10**10}",
        ):
            try:
                if not [*value_problems(msgspec.convert(form, kind), kind)]:
                    return self._noted(place, form)
            except msgspec.ValidationError:
                continue
        raise AssertionError(f"{place} takes no canary: give it a form here, or name its type among CHOICES")

    def _noted(self, place: str, value: str) -> str:
        self.of[f"{place} ({len(self.of)})"] = value
        return value

    def keep(self, name: str, *secrets: str) -> None:
        """Look for these too."""
        for secret in secrets:
            self._noted(name, secret)


def members(kind: Any) -> Iterator[Any]:
    """The members of a union, in whatever annotations, or ``kind`` itself."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, UnionType):
        for member in get_args(bare):
            yield from members(member)
    else:
        yield kind


class Channels:
    """Everything that is written, by where."""

    def __init__(self, app: Flask, postgres_log: Path) -> None:
        self.app, self.postgres_log = app, postgres_log
        self.lines: list[str] = []
        self.console: list[str] = []
        self.error_bodies: list[str] = []
        self.headers: list[str] = []

    def note(self, answer: Any) -> Any:
        """Keep what an answer must not tell: all its headers, and the body of an error."""
        self.headers.append(str(answer.headers))
        if answer.status_code >= 400:
            self.error_bodies.append(answer.text)
        return answer

    def leaks(self, wanted: dict[str, str]) -> set[tuple[str, str]]:
        """Which of ``wanted`` is found where."""
        texts = {
            "lines as JSON": "\n".join(self.lines),
            "lines on a console": "\n".join(self.console),
            "metrics": Caller(self.app).get("/metrics").text,
            "bodies of errors": "\n".join(self.error_bodies),
            "headers": "\n".join(self.headers),
            "PostgreSQL's log": self.postgres_log.read_text(errors="replace"),
        }
        return {(where, name) for where, said in texts.items() for name, value in wanted.items() if value in said}


EVERYWHERE = {"lines as JSON", "lines on a console", "metrics", "bodies of errors", "headers", "PostgreSQL's log"}


@pytest.fixture(scope="module")
def server(prepared: Prepare) -> Iterator[EmbeddedPostgres]:
    """An embedded server of this file's own, so that its log is ours to read."""
    with folder() as place, EmbeddedPostgres(prepared(place / "data"), durable=False) as server:
        yield server


@pytest.fixture(scope="module")
def own_app(server: EmbeddedPostgres) -> Iterator[Flask]:
    """The application as it runs in production: as the role that is bound, and with answers for its failures."""
    app = create_app({"database_url": server.app_url, "secret_key": SECRET, "mode": Mode.TEST})
    app.config["PROPAGATE_EXCEPTIONS"] = False
    with app.app_context():
        keys.ensure_ring(app.extensions["settings"])
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def world(own_app: Flask, server: EmbeddedPostgres) -> World:
    """A clinic with everybody in it, and one that people register with."""
    open_clinic = Clinic(own_app)
    with psycopg.connect(psycopg_url(server.superuser_url.replace("/postgres?", "/medical?"))) as connection:
        connection.execute(
            "UPDATE organization SET self_registration = true WHERE id = %s", [open_clinic.organization_id]
        )
    return World(own_app, open_clinic)


@pytest.fixture
def channels(own_app: Flask, server: EmbeddedPostgres) -> Iterator[Channels]:
    """All that is written from now on, at the most talkative level, in both formats."""
    channels = Channels(own_app, server.log_file)
    root = logging.getLogger()
    keepers: list[logging.Handler] = []
    for kind, kept in ((LogFormat.JSON, channels.lines), (LogFormat.CONSOLE, channels.console)):
        program_logging.configure(Settings(mode=Mode.TEST, log_level="DEBUG", log_format=kind))
        keeper = Keeper(kept)
        keeper.setFormatter(root.handlers[0].formatter)
        keepers.append(keeper)
    for keeper in keepers:
        root.addHandler(keeper)
    yield channels
    for keeper in keepers:
        root.removeHandler(keeper)
    program_logging.configure(Settings(mode=Mode.TEST))


class Keeper(Printer):
    """The program's own handler, writing into a list."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(io.StringIO())
        self.kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.kept.append(self.format(record))


def routes(app: Flask) -> dict[str, http.Declaration]:
    """Every declaration by its route."""
    return {route_of(rule, method): declaration for rule, method, declaration in declared_routes(app)}


def rightly(world: World, canaries: Canaries, route: str, declaration: http.Declaration) -> tuple[str, str, Any]:
    """Method, path and body of a call that would go through, with a canary in every personal field."""
    method, path = route.split()
    asks = next((row.asks for row in TABLE if row.route == route), None)
    body: Any = None
    if asks:
        path, body = asks(world)
    while "{" in path:
        path = path.partition("{")[0] + NOBODY + path.partition("}")[2]
    if declaration.body:
        body = (body or {}) | canaries.filled(declaration.body)
    if declaration.query and "?" not in path:
        given = canaries.filled(declaration.query)
        path += "".join(f"{'&' if number else '?'}{name}={value}" for number, (name, value) in enumerate(given.items()))
    return method, path, body


def wrongly(canaries: Canaries, kind: type[Input]) -> Iterator[dict[str, Any]]:
    """Bodies of ``kind`` in which one field has a canary that does not fit."""
    for field in msgspec.structs.fields(kind):
        word = f"canary{uuid4().hex[:12]}"
        canaries.keep(f"{kind.__name__}.{field.encode_name}, wrong", word)
        for wrong in (word * 1000, [word], {"x": word}, f"{word}\x00", f"{word}\n\x1b[31m", ""):
            yield canaries.filled(kind) | {field.encode_name: wrong}


def strange_headers(canaries: Canaries) -> dict[str, str]:
    """Headers that callers may fill as they like, each with a canary."""
    names = ("User-Agent", "Cookie", "Referer", "X-Forwarded-For", "If-Match", "Idempotency-Key", "X-Request-ID")
    given = {name: f"canary {uuid4().hex}" for name in names}
    canaries.keep("a header", *given.values())
    return given


class TestCanaries:
    """Whatever is entered stays out of whatever is written (LOG-01)."""

    def test_none_is_found_after_every_route_was_called(
        self, world: World, own_app: Flask, server: EmbeddedPostgres, channels: Channels
    ) -> None:
        """By everybody who may, rightly and wrongly, with every personal field filled."""
        canaries = Canaries()
        canaries.keep("a secret", SECRET, PASSWORD)
        statuses = set()
        for route, declaration in routes(own_app).items():
            for role in (Role.ADMIN, Role.CLINICIAN, Role.PATIENT):
                caller = world.caller(role, once="/me/" in route or route.endswith("/logout"))
                canaries.keep("a token", caller.token or "")
                method, path, body = rightly(world, canaries, route, declaration)
                statuses.add(channels.note(caller.call(method, path, body)).status_code)
            caller = world.caller(Role.ADMIN)
            for wrong in wrongly(canaries, declaration.body) if declaration.body else ():
                statuses.add(channels.note(caller.call(method, path, wrong)).status_code)
            for headers in (strange_headers(canaries), {"Authorization": f"Bearer {canaries.filled(Token)['token']}"}):
                channels.note(caller.call(method, path, body, headers))
            word = canaries.filled(Token)["token"]
            channels.note(caller.call(method, f"{path}/{word}?{word}={word}"))
        assert {200, 201, 401, 403, 409, 422} <= statuses
        assert len(canaries.of) > 300
        prove_read(channels, server)
        assert channels.leaks(canaries.of) == set()

    def test_none_is_found_after_signing_in(
        self, world: World, own_app: Flask, server: EmbeddedPostgres, channels: Channels
    ) -> None:
        """Right and wrong, with a second factor, by refreshing, and out again; tokens and codes are looked for too."""
        canaries = Canaries()
        password = f"canary {uuid4().hex} password"
        nurse = world.clinic.user(Role.NURSE, email=f"canary{uuid4().hex}@example.org", password=password)
        email, guest = world.clinic.email_of(nurse), Caller(own_app)
        totp, codes = second_factor(nurse)
        canaries.keep("sign-in", email, password, totp.secret, *codes)
        wrong = {"email": email, "password": f"{password}, wrong"}
        assert channels.note(guest.post("/auth/login", wrong)).status_code == 401
        assert channels.note(guest.post("/auth/login", {"email": email, "password": password})).status_code == 401
        signed_in = channels.note(guest.post("/auth/login", {"email": email, "password": password, "otp": codes[0]}))
        tokens = signed_in.get_json()
        canaries.keep("tokens", tokens["access_token"], tokens["refresh_token"])
        for _ in range(2):  # the second is a replay
            answer = channels.note(guest.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}))
        assert answer.status_code == 401
        assert channels.note(Caller(own_app, tokens["access_token"]).get("/me")).status_code == 401
        prove_read(channels, server)
        assert channels.leaks(canaries.of) == set()


class Token(Input, frozen=True, kw_only=True):
    """A word to look for."""

    token: str


def prove_read(channels: Channels, server: EmbeddedPostgres) -> None:
    """Each channel shows what is written into it: without that, finding nothing would mean nothing."""
    get_logger(__name__).warning("control", value=CONTROL)
    metrics.observe("GET", CONTROL, 200, 0)
    channels.note(Caller(channels.app).call("GET", "/nowhere", headers={"X-Request-ID": CONTROL}))
    with psycopg.connect(psycopg_url(server.superuser_url)) as connection, pytest.raises(psycopg.DataError):
        connection.execute("SELECT CAST(%s AS date)", [CONTROL])
    assert channels.leaks({"control": CONTROL}) == {(where, "control") for where in EVERYWHERE}


CANARY = f"canary{uuid4().hex}"


def crash(*_arguments: object, **_named: object) -> NoReturn:
    """Fail as a bug would, with a patient in the message, and in that of the cause."""
    row = {"given_name": CANARY}
    try:
        raise LookupError(f"no such patient: {row}")
    except LookupError as error:
        raise ValueError(row, CANARY) from error


def refuse_value(*_arguments: object, **_named: object) -> None:
    """Fail as the database does with a value that it cannot read, which it quotes."""
    db.session.execute(text("SELECT CAST(:born AS date)"), {"born": CANARY})


def refuse_row(*_arguments: object, **_named: object) -> None:
    """Fail as the database does with a row that breaks a rule, which it quotes in full."""
    db.session.execute(
        text(
            "INSERT INTO location (id, organization_id, name, time_zone, version)"
            " VALUES (gen_random_uuid(), current_organization(), :name, NULL, 1)"
        ),
        {"name": CANARY},
    )


def encode(*_arguments: object, **_named: object) -> Any:
    """Fail to put text into bytes; the error carries the text."""
    return f"{CANARY}\ud800".encode()


Break = Callable[[Flask, pytest.MonkeyPatch], None]


def patched(owner: Any, name: str, failure: Callable[..., Any] = crash) -> Break:
    """Puts ``failure`` in the place of a function."""
    return lambda _app, patch: patch.setattr(owner, name, failure)


def hooked(hooks: str) -> Break:
    """Puts a failing function among the hooks of Flask."""
    return lambda app, patch: patch.setitem(getattr(app, hooks), None, [*getattr(app, hooks)[None], crash])


def first_hook(app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Fails before a request even has its id."""
    patch.setitem(app.before_request_funcs, None, [crash])


def with_broken_handler(app: Flask, patch: pytest.MonkeyPatch) -> None:
    """Fails, and then in the handler of failures."""
    patch.setattr(people, "search_patients", crash)
    patch.setattr(database, "refusal_of", crash)


def with_broken_trail(app: Flask, patch: pytest.MonkeyPatch) -> None:
    """The trail cannot be written."""
    patch.setattr(app.extensions["http"], "record", crash)


def with_broken_authentication(app: Flask, patch: pytest.MonkeyPatch) -> None:
    """The caller cannot be told."""
    patch.setattr(app.extensions["http"], "authenticate", crash)


LAYERS: dict[str, Break] = {
    "the first hook": first_hook,
    "a hook before": hooked("before_request_funcs"),
    "the edge": patched(http, "_attempt"),
    "authentication": with_broken_authentication,
    "reading the query": patched(http, "read_query"),
    "a service": patched(people, "search_patients"),
    "a value that PostgreSQL refuses": patched(people, "search_patients", refuse_value),
    "a row that PostgreSQL refuses": patched(people, "search_patients", refuse_row),
    "encoding": patched(people, "search_patients", encode),
    "the trail": with_broken_trail,
    "the answer": patched(http, "_answer"),
    "the response": patched(http, "_response"),
    "a hook after": hooked("after_request_funcs"),
    "a hook at the end": hooked("teardown_request_funcs"),
    "the handler of failures": with_broken_handler,
}


class TestFailure:
    """A bug anywhere is a problem document with the request's id, and its detail nowhere (LOG-01, LOG-02)."""

    @pytest.mark.parametrize("layer", LAYERS)
    def test_says_nothing(
        self, world: World, own_app: Flask, channels: Channels, monkeypatch: pytest.MonkeyPatch, layer: str
    ) -> None:
        """But that there was one: in the answer, and in one line of the log, where the way through the code stands."""
        caller = world.callers[Role.RECEPTIONIST]
        with monkeypatch.context() as patch:
            LAYERS[layer](own_app, patch)
            answer = channels.note(caller.get("/patients", q=CANARY))
        problem = answer.get_json()
        assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
        assert problem["code"] == "internal_error"
        assert problem["request_id"] == answer.headers["X-Request-ID"]
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert channels.leaks({"canary": CANARY, "token": caller.token or ""}) == set()
        lines = [json.loads(line) for line in channels.lines]
        told = [line for line in lines if line["event"] == "unhandled_error"]
        assert problem["request_id"] in [line["request_id"] for line in told]
        assert all("File " in line["exception"] for line in told)
        assert "Traceback" not in "".join(channels.lines)

    def test_of_the_database_is_told_by_its_state(self, world: World, own_app: Flask, channels: Channels) -> None:
        """So that the operator has more than a name."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(people, "search_patients", refuse_row)
            world.callers[Role.RECEPTIONIST].get("/patients")
        told = next(json.loads(line) for line in channels.lines if "unhandled_error" in line)
        assert "psycopg.errors.NotNullViolation (SQLSTATE 23502)" in told["exception"]

    def test_that_a_library_logs(self, channels: Channels) -> None:
        """As the exception of a line, or as a part of it."""
        library = logging.getLogger("some.library")
        try:
            crash()
        except ValueError as error:
            library.exception("it went wrong")
            library.error("ignored: %s, at %s", error, "place")
            get_logger(__name__).info("ours", exc_info=True, stack_info=True)
        assert "ignored: ValueError, at place" in "\n".join(channels.lines)
        assert channels.leaks({"canary": CANARY}) == set()


CRASHES = {
    "load(broken)": "worker_failed",
    "log_crashes(); broken()": "uncaught_error",
    "log_crashes(); thread = threading.Thread(target=broken); thread.start(); thread.join()": "uncaught_error",
    "log_crashes(); Fading()": "uncaught_error",
    "logging.getLogger('x').warning('%d', CANARY)": "line_lost",
}
"""What ends a process, a thread or a line, and the event that tells of it."""

PROGRAM = """
import gc, logging, sys, threading
from medical.config import Settings
from medical.platform.logging import configure, log_crashes
from medical.platform.server import load
CANARY = "{canary}"
def broken():
    raise ValueError(CANARY)
class Fading:
    def __del__(self):
        broken()
configure(Settings())
{crash}
"""


@pytest.mark.parametrize("crash", CRASHES)
def test_the_end_of_a_process_is_a_line_too(crash: str) -> None:
    """Where Python itself would print the exception with its message."""
    code = PROGRAM.format(canary=CANARY, crash=crash)
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert CANARY not in printed
    assert [json.loads(line)["event"] for line in printed.splitlines()] == [CRASHES[crash]]


HOSTILE = "Ada\r\nINFO forged\n\x00\x1b[31mred\x1b[0m\x85\u2028\u2029\u202etxt\x7f\x9b31m"


class TestLine:
    """One record is one line, whatever is in it (LOG-02)."""

    def test_has_no_control_characters(self, channels: Channels) -> None:
        """In no format, and in no place: event, value, key of a library's extra, message."""
        log = get_logger(__name__)
        log.info(HOSTILE, value=HOSTILE, values=[HOSTILE])
        logging.getLogger("some.library").warning("said %s", HOSTILE, extra={"more": HOSTILE})
        for kept in (channels.lines, channels.console):
            assert len(kept) == 2
            assert all(line.isprintable() for line in kept)
        said = json.loads(channels.lines[0])
        assert (said["event"], said["value"]) == (HOSTILE, HOSTILE)

    def test_has_no_half_of_a_character(self, channels: Channels) -> None:
        """What cannot be written as UTF-8; only the program's own handlers may see it."""
        record = logging.LogRecord("some.library", logging.WARNING, __file__, 1, "said %s", ("\ud800",), None)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, Keeper):
                handler.emit(record)
        for kept in (channels.lines, channels.console):
            assert all(line.isprintable() and line.encode() for line in kept)
            assert len(kept) == 1

    def test_has_its_time_in_utc(self, channels: Channels) -> None:
        """As ISO 8601."""
        get_logger(__name__).info("now")
        assert json.loads(channels.lines[0])["time"].endswith("Z")

    def test_of_hostile_requests_stays_one(self, world: World, channels: Channels) -> None:
        """Path, query, header and body with what would end a line or colour it."""
        caller = world.callers[Role.RECEPTIONIST]
        forged = "x%0d%0a%1b[31m%00%e2%80%a8forged"
        caller.call("GET", f"/patients/{forged}?q={forged}")
        caller.get("/patients", q=HOSTILE.encode(errors="ignore").decode())
        caller.call("GET", "/patients", headers={"X-Request-ID": "a\x1b[31m\x85b", "User-Agent": "\x1b[31m\x85"})
        caller.post("/patients", {HOSTILE: HOSTILE})
        for kept in (channels.lines, channels.console):
            assert all(line.isprintable() for line in kept)
            assert "forged" not in "".join(kept)
