"""The OpenAPI document as it follows from declarations, and Swagger UI's page and assets."""

from typing import Any

import pytest
from flask import Flask

from medical.platform.openapi import ASSETS, document
from tests.clinic import Caller


@pytest.fixture(scope="module")
def made(app: Flask) -> dict[str, Any]:
    """The document of the program."""
    return document(app)


def operation(made: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """One operation of the document."""
    found: dict[str, Any] = made["paths"][path][method]
    return found


class TestOperation:
    """What a reader learns of one call."""

    def test_a_guarded_call_names_permission_and_refusals(self, made: dict[str, Any]) -> None:
        """Who may, what the trail calls it, and how it can be refused."""
        book = operation(made, "post", "/api/v1/appointments")
        assert (book["x-permission"], book["x-audit"]) == ("appointment:book", "appointment.booked")
        assert book["security"] == [{"bearer": []}]
        assert set(book["responses"]) >= {"201", "400", "401", "403", "404", "409", "413", "415", "422", "503"}
        for code in ("slot_taken", "patient_busy", "outside_availability", "too_soon", "beyond_horizon"):
            assert f"`{code}`" in book["responses"]["409"]["description"]

    def test_a_public_call_needs_no_token(self, made: dict[str, Any]) -> None:
        """And says so, whatever the rest of the document requires."""
        login = operation(made, "post", "/api/v1/auth/login")
        assert (login["security"], login["x-permission"]) == ([], None)
        assert "403" not in login["responses"]
        assert "`invalid_credentials`" in login["responses"]["401"]["description"]

    def test_headers_that_count_are_parameters(self, made: dict[str, Any]) -> None:
        """The key where something is made, the condition where something is changed."""
        headers = {
            (method, path): {
                one["name"] for one in operation(made, method, path)["parameters"] if one["in"] == "header"
            }
            for method, path in [
                ("post", "/api/v1/patients"),
                ("patch", "/api/v1/patients/{patient_id}"),
                ("get", "/api/v1/patients"),
            ]
        }
        assert list(headers.values()) == [{"Idempotency-Key"}, {"If-Match"}, set()]

    def test_parameters_have_their_limits(self, made: dict[str, Any]) -> None:
        """A client can check before it calls."""
        parameters = {one["name"]: one for one in operation(made, "get", "/api/v1/patients")["parameters"]}
        limit = parameters["limit"]["schema"]
        assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 200, 50)
        assert parameters["q"]["schema"]["type"] == "string"
        assert not parameters["q"]["required"]

    def test_a_repeatable_parameter_is_a_list(self, made: dict[str, Any]) -> None:
        """And a required one is required, under the name it has in the query."""
        parameters = {one["name"]: one for one in operation(made, "get", "/api/v1/slots")["parameters"]}
        assert parameters["clinician_id"]["schema"]["type"] == "array"
        assert {name for name, one in parameters.items() if one["required"]} == {"appointment_type_id", "from", "to"}

    def test_answers_name_their_headers(self, made: dict[str, Any]) -> None:
        """Every one the request's id, a single resource its ETag."""
        answer = operation(made, "get", "/api/v1/patients/{patient_id}")["responses"]["200"]
        assert set(answer["headers"]) == {"X-Request-ID", "ETag"}

    def test_operations_have_a_name_and_a_sentence(self, made: dict[str, Any]) -> None:
        """Names are unique, for whoever makes a client of them."""
        every = [one for path in made["paths"].values() for one in path.values()]
        assert len({one["operationId"] for one in every}) == len(every)
        assert all(one["summary"] for one in every)


class TestSwaggerUi:
    """The page to try the API with."""

    def test_the_page_may_load_from_here_alone(self, app: Flask) -> None:
        """No script of elsewhere or in the page, and no address in it that is not ours."""
        answer = Caller(app).get("/api/docs")
        policy = answer.headers["Content-Security-Policy"]
        assert answer.content_type == "text/html; charset=utf-8"
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "connect-src 'self'" in policy
        assert "://" not in answer.text
        assert "<script>" not in answer.text

    def test_what_the_page_names_is_served(self, app: Flask) -> None:
        """Each with its type, and for a browser to keep."""
        page = Caller(app).get("/api/docs").text
        for name, (_, _, media_type) in ASSETS.items():
            assert f"/api/docs/{name}" in page
            answer = Caller(app).get(f"/api/docs/{name}")
            assert answer.status_code == 200
            assert answer.mimetype == media_type
            assert len(answer.data) > 100
            assert answer.headers["Cache-Control"] == "public, max-age=3600"
            assert "'none'" in answer.headers["Content-Security-Policy"]

    def test_a_refused_asset_is_a_problem_that_nobody_keeps(self, app: Flask) -> None:
        """It does not dress as a script."""
        answer = Caller(app).call("GET", "/api/docs/start.js?x=1")
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
        assert answer.headers["Cache-Control"] == "no-store"

    def test_it_starts_with_our_document(self, app: Flask) -> None:
        """It asks nobody else to validate it, and keeps no token beyond the page."""
        start = Caller(app).get("/api/docs/start.js").text
        assert 'url: "/api/openapi.json"' in start
        assert "validatorUrl: null" in start
        assert "persistAuthorization: false" in start
        assert "://" not in start
