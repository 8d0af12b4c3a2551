"""What every answer has, whatever the request was."""

import re
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from medical.identity.errors import KeyRingLocked
from medical.platform.web import HEADERS
from tests.clinic import API, Caller, Clinic
from tests.platform.conftest import Probe

NOBODY = "018f0000-0000-7000-8000-000000000000"


class TestRequestId:
    """Every answer has the id under which its request stands in log and trail."""

    @pytest.mark.parametrize("given", ["x", "a" * 128, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "web-1/2:3~4@host+5=6_7.8"])
    def test_a_plain_one_is_the_callers_own(self, app: Flask, given: str) -> None:
        """So that a caller's log and ours can be laid side by side."""
        answer = Caller(app).call("GET", "/nowhere", headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == given == answer.get_json()["request_id"]

    @pytest.mark.parametrize("given", ["", " ", "a" * 129, "two words", "ü", 'x"y', "<script>", "a;b", "{}"])
    def test_an_odd_one_is_replaced(self, app: Flask, given: str) -> None:
        """By one of ours, of which no two are the same."""
        ids = {
            Caller(app).call("GET", "/nowhere", headers={"X-Request-ID": given}).headers["X-Request-ID"]
            for _ in range(2)
        }
        assert len(ids) == 2
        assert {UUID(one).version for one in ids} == {7}


class TestHeaders:
    """Answers are not stored, framed, sniffed or embedded."""

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/me", 200),
            ("HEAD", "/me", 200),
            ("POST", "/auth/logout", 204),
            ("GET", "/nowhere", 404),
            ("GET", f"/patients/{NOBODY}", 404),
            ("PUT", "/me", 405),
            ("POST", "/locations", 415),
            ("GET", "/me?x=1", 422),
            ("GET", "/health/live", 200),
            ("GET", "/metrics", 200),
            ("GET", "/api/openapi.json", 200),
        ],
    )
    def test_are_on_every_kind_of_answer(self, clinic: Clinic, method: str, path: str, status: int) -> None:
        """Success, refusal, or a path that does not exist."""
        answer = clinic.admin.call(method, path)
        assert answer.status_code == status
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "X-Request-ID" in answer.headers

    def test_are_on_401_and_500_too(self, probe: Probe, caller: Caller) -> None:
        """A stranger's call and a failure of ours."""

        def fail() -> None:
            raise ZeroDivisionError

        probe.does = fail
        for answer, status in ((Caller(probe.app).get("/me"), 401), (caller.get("/probe"), 500)):
            assert answer.status_code == status
            assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS

    def test_say_what_they_must(self) -> None:
        """The values themselves, as a browser reads them."""
        assert HEADERS["Cache-Control"] == "no-store"
        assert HEADERS["X-Content-Type-Options"] == "nosniff"
        assert HEADERS["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]
        assert re.search(r"max-age=\d{8}", HEADERS["Strict-Transport-Security"])


class TestUnknownPath:
    """A path that is not there."""

    @pytest.mark.parametrize(
        "path",
        [
            "/nowhere",
            "/users/",
            "//users",
            "/api/v2/users",
            "/patients/not-a-uuid",
            "/patients/1",
            "/../users",
            "/users%00",
            "/api/docs/../openapi.json",
            "/api/docs/unknown.js",
        ],
    )
    def test_is_a_problem_and_no_redirect(self, clinic: Clinic, path: str) -> None:
        """Never HTML; also where only a slash is wrong."""
        answer = clinic.admin.call("GET", path)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
        assert answer.content_type == "application/problem+json"
        assert "Location" not in answer.headers


class TestUnknownMethod:
    """A method that the path does not take."""

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "/users", "GET, HEAD, POST"),
            ("OPTIONS", "/users", "GET, HEAD, POST"),
            ("TRACE", "/me", "GET, HEAD"),
            ("GET", "/auth/login", "POST"),
            ("BREW", "/auth/login", "POST"),
            ("POST", f"/users/{NOBODY}", "GET, HEAD, PATCH"),
            ("POST", "/health/live", "GET, HEAD"),
        ],
    )
    def test_is_told_which_it_takes(self, clinic: Clinic, method: str, path: str, allowed: str) -> None:
        """405 with Allow (RFC 9110 section 15.5.6)."""
        answer = clinic.admin.call(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert answer.get_json()["code"] == "method_not_allowed"


class TestFailure:
    """A bug of ours."""

    def test_says_nothing_but_the_request_id(self, probe: Probe, caller: Caller) -> None:
        """Whatever the exception carries stays inside."""

        def fail() -> None:
            raise ValueError("Ada Okafor, born 1980-05-17")

        probe.does = fail
        answer = caller.call("POST", "/probe", {"name": "x"}, {"X-Request-ID": "tell-the-operator"})
        assert answer.get_json() == {
            "type": "urn:medical-backend:problem:internal_error",
            "title": "Internal error",
            "status": 500,
            "detail": "Something went wrong here; tell the operator the request_id.",
            "code": "internal_error",
            "request_id": "tell-the-operator",
        }

    def test_says_as_little_when_it_is_one_of_ours(
        self, probe: Probe, caller: Caller, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What the operator must mend is the operator's to know: it stands in the log, not in the answer."""

        def fail() -> None:
            raise KeyRingLocked

        probe.does = fail
        answer = caller.post("/probe", {"name": "x"})
        assert answer.status_code == 500
        assert "SECRET_KEY" not in answer.text
        assert any("KeyRingLocked" in str(record.msg) for record in caplog.records if record.levelname == "ERROR")


class TestMetrics:
    """What Prometheus is told."""

    def test_a_request_is_counted_under_its_route(self, clinic: Clinic) -> None:
        """Never under its path, which holds ids, nor under a method that somebody made up."""
        clinic.admin.get(f"/patients/{NOBODY}")
        clinic.admin.call("GURGLE", "/me")
        clinic.admin.get("/nowhere/at-all")
        text = clinic.admin.get("/metrics").text
        route = 'method="GET",route="/api/v1/patients/<uuid:patient_id>",status="404"'
        assert re.search(rf"medical_http_requests_total\{{{re.escape(route)}\}} [1-9]", text)
        assert 'method="other",route="unknown",status="405"' in text
        for secret in (NOBODY, "GURGLE", "at-all"):
            assert secret not in text


def test_flask_itself_answers_nothing_in_html(app: Flask) -> None:
    """A call that Flask refuses before it looks for a route is a problem document too."""
    answer: Any = app.test_client().get(f"{API}/me", headers={"Authorization": "Bearer " + "x" * 20_000})
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
