"""HDR-01, HDR-04, DAT-02: what every answer carries, whatever its route and its status, and what none does."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from medical import access
from medical.identity.permissions import Role
from medical.platform import http
from medical.platform.http import Declaration, declared_routes
from medical.platform.web import HEADERS
from medical.platform.wire import MAXIMUM_BODY
from tests.clinic import PASSWORD, Caller, Clinic
from tests.system.test_access import TABLE, World, route_of

ORIGIN = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
PAGE = "GET /api/docs"
ASSET = "GET /api/docs/{name}"
KEYS = "GET /.well-known/jwks.json"
CALENDAR = "GET /api/v1/calendars/{secret}.ics"
OAUTH = ("POST /oauth/token", "POST /oauth/introspect", "POST /oauth/revoke")
CONSENT = ("GET /oauth/authorize", "POST /oauth/authorize", "POST /oauth/authorize/decision")
OWN_HEADERS = dict.fromkeys((PAGE, *CONSENT), "Content-Security-Policy") | dict.fromkeys(
    (ASSET, KEYS, CALENDAR), "Cache-Control"
)
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "PROPFIND"]


@pytest.fixture(scope="module")
def world(app: Flask, open_clinic: Clinic) -> World:
    """One for all the routes."""
    return World(app, open_clinic)


@pytest.fixture(scope="module")
def declared(app: Flask) -> dict[str, Declaration]:
    """Every declaration by its route."""
    return {route_of(rule, method): declaration for rule, method, declaration in declared_routes(app)}


def path_of(route: str) -> str:
    """The path of a route, with ids of nobody."""
    path = route.split()[1].replace("{name}", "start.js").replace("{type_name}", "Observation")
    path = path.replace("{owner_type}", "Patient").replace("{kind}", "problems").replace("{number}", "1")
    while "{" in path:
        path = path.partition("{")[0] + str(uuid4()) + path.partition("}")[2]
    return path


def calls(world: World, route: str, declaration: Declaration, patch: pytest.MonkeyPatch) -> Iterator[tuple[int, Any]]:
    """Answers to ``route``, each with the status that it is meant to have."""
    method, path, permission = route.partition(" ")[0], path_of(route), declaration.permission
    able = world.caller(next(role for role in Role if permission is None or permission in access.POLICY[role]))
    row = next((row for row in TABLE if row.route == route), None)
    if row:
        caller = world.caller("admin", once=row.ends_sign_ins)
        right, body = row.asks(world)
        yield row.expected["admin"], caller.call(method, right, body, ORIGIN)
    yield 405, able.call("BREW", path, headers=ORIGIN)
    if not declaration.raw:
        yield 422, able.call(method, f"{path}?strange=1", {}, ORIGIN)
    if not declaration.public:
        yield 401, Caller(world.app).call(method, path, headers=ORIGIN)
        yield 401, Caller(world.app, "forged").call(method, path, headers=ORIGIN)
        refused = next((role for role in Role if row and row.expected[role] == 403), None)
        if refused:
            yield 403, world.caller(refused).call(method, path, headers=ORIGIN)
    if declaration.body:
        for status, kind, data in ((400, http.JSON, "{"), (415, "text/plain", "{}"), (413, http.JSON, BIG)):
            sent = ORIGIN | {"Authorization": f"Bearer {able.token}", "Content-Type": kind}
            yield status, world.app.test_client().open(path, method=method, data=data, headers=sent)
        yield 422, able.call(method, path, {"strange": 1}, ORIGIN)
    elif "_id}" in route:
        yield (415 if declaration.raw and method in http.BODIED else 404), able.call(method, path, headers=ORIGIN)
    for status, failure in FAILURES.items():
        with patch.context() as broken:
            broken.setattr(http, "_attempt", failure)
            yield status, able.call(method, path, headers=ORIGIN)


BIG = " " * (MAXIMUM_BODY + 1)


def bug(*_arguments: object) -> None:
    """A bug of ours."""
    raise ZeroDivisionError


def outage(*_arguments: object) -> None:
    """The database is away."""
    raise OperationalError("SELECT", {}, OSError())


FAILURES: dict[int, Callable[..., None]] = {500: bug, 503: outage}


def policy(answer: Any) -> dict[str, str]:
    """The content security policy by directive."""
    directives = (one.strip().partition(" ") for one in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in directives}


def ensure_safe(answer: Any, route: str) -> None:
    """The answer has what every answer has, and nothing that none may have."""
    page = "/oauth/authorize" in route
    own = {OWN_HEADERS.get(route)} if answer.status_code == 200 else {"Content-Security-Policy"} if page else set()
    for name in HEADERS.keys() - own:
        assert answer.headers.getlist(name) == [HEADERS[name]], (route, answer.status, name)
    found = policy(answer)
    assert found["default-src"] == found["frame-ancestors"] == found["base-uri"] == "'none'"
    sent_to = found.pop("form-action")
    assert sent_to == "'none'" or (page and sent_to in ("'self' https://app.example.org", "'self'"))
    assert not any(word in " ".join(found.values()) for word in ("unsafe", "*", "http"))
    assert answer.headers["X-Request-ID"]
    given = {name.lower() for name, _ in answer.headers}
    assert not [name for name in given if name.startswith("access-control-")], (route, answer.status)
    assert "set-cookie" not in given
    if answer.status_code >= 400:
        oauth = route in OAUTH and "error" in answer.get_json()
        kind = "application/fhir+json" if "/fhir/" in route else "application/problem+json"
        kind = "text/html; charset=utf-8" if page else kind
        assert answer.content_type == ("application/json" if oauth else kind)


class TestEveryAnswer:
    """Safe in a browser, and kept by nobody."""

    def test_of_every_route_with_every_status(
        self, world: World, declared: dict[str, Declaration], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Success, refusal and failure; also where another site asks."""
        seen: dict[str, set[int]] = defaultdict(set)
        for route, declaration in declared.items():
            for status, answer in calls(world, route, declaration, monkeypatch):
                assert answer.status_code == status, (route, answer.text)
                ensure_safe(answer, route)
                seen[route].add(answer.status_code)
        assert all({405, 500, 503} <= statuses for statuses in seen.values())
        assert {route for route, statuses in seen.items() if 422 not in statuses} == {
            route for route, declaration in declared.items() if declaration.raw
        }
        assert set().union(*seen.values()) >= {200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 415, 422, 500, 503}

    def test_of_the_rarer_refusals(self, world: World) -> None:
        """A stale change, a taken time, one guess too many, a host that is not ours, a path that is not there."""
        desk = world.callers[Role.RECEPTIONIST]
        patient = f"/patients/{world.patient['id']}"
        stale = desk.call("PATCH", patient, {"phone": "+49 30 901821"}, ORIGIN | {"If-Match": '"99"'})
        booking = world.booking()
        taken = [desk.call("POST", "/appointments", booking, ORIGIN) for _ in range(2)][1]
        guess = {"email": f"{uuid4()}@example.org", "password": f"not {PASSWORD}"}
        guesses = [
            world.app.test_client().post(
                "/api/v1/auth/login", json=guess, headers=ORIGIN, environ_base={"REMOTE_ADDR": "203.0.113.200"}
            )
            for _ in range(30)
        ]
        nowhere = desk.call("GET", "/nowhere", headers=ORIGIN)
        asked = [(412, stale), (409, taken), (429, guesses[-1]), (404, nowhere)]
        for status, answer in asked:
            assert answer.status_code == status, answer.text
            ensure_safe(answer, "")

    def test_says_what_a_browser_must_hear(self) -> None:
        """The values: a year of HTTPS alone, no guessing of types, no referrer, no window shared, no copy kept."""
        assert int(HEADERS["Strict-Transport-Security"].partition("=")[2].partition(";")[0]) >= 31536000
        assert HEADERS["X-Content-Type-Options"] == "nosniff"
        assert HEADERS["Referrer-Policy"] == "no-referrer"
        assert HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
        assert HEADERS["Cache-Control"] == "no-store"
        assert HEADERS["Vary"] == "Authorization, Origin"


class TestCookie:
    """DAT-02: no cookie is read, so no answer depends on one."""

    def test_changes_no_answer(self, world: World) -> None:
        """Neither that of a stranger nor that of a caller, whatever it says."""
        cookie = {"Cookie": f"session={world.callers[Role.ADMIN].token}; access_token=x; role=admin"}
        rows = [row for row in TABLE if row.method == "GET" and row.route != "GET /metrics"]
        for row in rows:
            path, _ = row.asks(world)
            for caller in (Caller(world.app), world.callers[Role.ADMIN]):
                same = {"X-Request-ID": "the-same"}
                without, with_it = (caller.call("GET", path, headers=same | more) for more in ({}, cookie))
                assert (with_it.status, with_it.data, [*with_it.headers]) == (
                    without.status,
                    without.data,
                    [*without.headers],
                )

    def test_is_read_nowhere(self, project: Path) -> None:
        """No code of ours asks for one."""
        for file in sorted((project / "medical").rglob("*.py")):
            names = {
                getattr(node, "attr", getattr(node, "name", ""))
                for node in ast.walk(ast.parse(file.read_text("utf-8")))
            }
            assert not names & {"cookies", "set_cookie", "delete_cookie", "HTTP_COOKIE"}, file


class TestMethod:
    """HDR-04: what a path does not take is refused, by the same words everywhere."""

    def test_that_a_path_does_not_take_is_405(self, world: World, declared: dict[str, Declaration]) -> None:
        """With Allow; OPTIONS, TRACE and CONNECT are among them, so nobody is told of CORS or shown their headers."""
        takes: dict[str, set[str]] = defaultdict(set)
        for route in declared:
            method, path = route.split()
            takes[path] |= {method} | ({"HEAD"} if method == "GET" else set())
        forms = {path: re.sub("{(?:type_name|owner_type)}", "[A-Z][A-Za-z]+", path) for path in takes}
        general = {re.compile(re.sub(r"{\w+}", "[^/$_]+", form)): takes[path] for path, form in forms.items()}
        for path, own_methods in takes.items():  # what a path of its own does not take, a general one may
            own, fhir = path_of(f"GET {path}"), path.startswith("/fhir/")
            taken = own_methods.union(*(some for form, some in general.items() if fhir and form.fullmatch(own)))
            for method in sorted(set(METHODS) - taken):
                answer = world.callers[Role.ADMIN].call(method, path_of(f"{method} {path}"), headers=ORIGIN)
                assert (answer.status_code, answer.headers["Allow"]) == (405, ", ".join(sorted(taken))), (method, path)
                ensure_safe(answer, path)
                assert str(world.callers[Role.ADMIN].token) not in answer.text

    @pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
    def test_is_the_one_of_the_request_line(self, world: World, header: str) -> None:
        """A header or parameter that names another one changes nothing."""
        hours, admin = world.hours(), world.callers[Role.ADMIN]
        path = f"/availabilities/{hours}"
        assert admin.call("GET", path, headers={header: "DELETE"}).status_code == 200
        assert admin.call("POST", path, headers={header: "DELETE"}).status_code == 405
        assert admin.call("POST", f"{path}?_method=DELETE").status_code == 405
        assert admin.get(path).status_code == 200
