"""Whose scripts a browser lets call FHIR: those of registered apps, and nobody else's."""

from typing import Any
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from medical.smart import cors
from tests.clinic import Caller, Clinic, Form, Statements
from tests.smart.conftest import App

METADATA, TOKEN, PATIENTS = "/fhir/R4/metadata", "/oauth/token", "/fhir/R4/Patient"


class Script:
    """What a browser sends for a script."""

    def __init__(self, clinic: Clinic, origin: str) -> None:
        self.guest, self.origin = Caller(clinic.app), origin

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """A request, with the origin that the script cannot choose."""
        return self.guest.call(method, path, body, headers={"Origin": self.origin} | headers)

    def preflight(self, path: str) -> TestResponse:
        """What comes before it."""
        asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,if-match"}
        return self.call("OPTIONS", path, **asked)


@pytest.fixture
def origin() -> str:
    """Where an app is served from that nobody asked about before."""
    return f"https://charts-{uuid4().hex}.example.org"


@pytest.fixture
def script(clinic: Clinic, origin: str) -> Script:
    """A script of a registered app."""
    App(clinic, redirect_uris=[f"{origin}/back"])
    return Script(clinic, origin)


def allowed(answer: TestResponse) -> str | None:
    """The origin whose scripts may read the answer."""
    return answer.headers.get("Access-Control-Allow-Origin")


class TestRegistered:
    """An app's own origin."""

    @pytest.mark.parametrize("path", [METADATA, TOKEN, "/oauth/revoke", PATIENTS, "/fhir/R4/Observation/1/_history"])
    def test_may_call(self, script: Script, path: str) -> None:
        answer = script.preflight(path)
        assert (answer.status_code, answer.data, allowed(answer)) == (204, b"", script.origin)
        assert "PUT" in answer.headers["Access-Control-Allow-Methods"].split(", ")
        heard = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"authorization", "content-type", "if-match", "prefer"} <= set(heard)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]

    def test_reads_answers_and_refusals(self, script: Script) -> None:
        answers = [
            script.call("GET", METADATA),
            script.call("GET", PATIENTS),
            script.call("GET", PATIENTS, Authorization="Bearer wrong"),
            script.call("POST", TOKEN, Form({"grant_type": "nothing"})),
        ]
        assert [answer.status_code for answer in answers] == [200, 401, 401, 400]
        for answer in answers:
            assert allowed(answer) == script.origin
            assert "ETag" in answer.headers["Access-Control-Expose-Headers"].split(", ")

    def test_is_told_by_the_statement(self, script: Script) -> None:
        statement = script.call("GET", METADATA).get_json()
        assert statement["rest"][0]["security"]["cors"] is True

    @pytest.mark.parametrize("path", ["/api/v1/me", "/api/v1/patients", "/oauth/authorize", "/health/ready", "/docs"])
    def test_may_not_elsewhere(self, script: Script, path: str) -> None:
        assert allowed(script.preflight(path)) is allowed(script.call("GET", path)) is None

    def test_is_asked_about_once(self, script: Script, statements: Statements) -> None:
        for _ in range(3):
            script.preflight(PATIENTS)
        assert sum("has_origin" in one for one in statements.sent) == 1

    def test_may_not_once_its_app_is_closed(self, clinic: Clinic, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the latest a minute after."""
        monkeypatch.setattr(cors, "KNOWN_FOR", -1.0)
        app, script = App(clinic, redirect_uris=[f"{origin}/back"]), Script(clinic, origin)
        assert allowed(script.call("GET", METADATA)) == origin
        assert clinic.admin.post(f"/smart-apps/{app.id}/deactivate").status_code == 200
        assert allowed(script.call("GET", METADATA)) is None


@pytest.mark.parametrize(
    "spelling",
    ["{}.evil.example", "{}x", "{}:8443", "http{}", "null", "https://", "https://evil.example", "{}/", "{}/back", "%"],
)
def test_no_other_origin(clinic: Clinic, script: Script, spelling: str) -> None:
    """Also none that looks like it."""
    rest = script.origin.removeprefix("https") if spelling.startswith("http{") else script.origin
    other = Script(clinic, spelling.format(rest))
    answer = other.preflight(PATIENTS)
    assert (answer.status_code, allowed(answer)) == (405, None)
    assert allowed(other.call("GET", METADATA)) is None
