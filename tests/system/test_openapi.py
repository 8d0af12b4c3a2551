"""The OpenAPI document: valid, complete, and nothing but what is there."""

import re
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from medical.access import PUBLIC
from medical.platform.http import declared_routes
from tests.clinic import Caller


@pytest.fixture(scope="module")
def served(app: Flask) -> dict[str, Any]:
    """The document as callers get it."""
    answer = Caller(app).get("/api/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    document: dict[str, Any] = answer.get_json()
    return document


@pytest.fixture(scope="module")
def operations(served: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation by method and path."""
    return {(method, path): one for path, item in served["paths"].items() for method, one in item.items()}


def test_it_is_valid_openapi_3_1(served: dict[str, Any]) -> None:
    """By the validator of the specification; a document that is spoilt is found wrong."""
    assert served["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(served).iter_errors()] == []
    spoilt = served | {"paths": {"/x": {"get": {"responses": 5}}}}
    assert not OpenAPIV31SpecValidator(spoilt).is_valid()


def test_it_equals_the_url_map_both_ways(app: Flask, operations: dict[tuple[str, str], Any]) -> None:
    """No route is left out, and no operation is without a route."""
    routes = {
        (method.lower(), re.sub(r"<(?:[^<>]*?:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(operations) == routes


def test_every_parameter_of_a_path_is_described(operations: dict[tuple[str, str], Any]) -> None:
    """By its name, and as what it is."""
    for (_method, path), operation in operations.items():
        described = {one["name"]: one["schema"] for one in operation["parameters"] if one["in"] == "path"}
        assert set(described) == set(re.findall(r"{(\w+)}", path))
        ours = {
            name: schema for name, schema in described.items() if name.endswith("_id") and not path.startswith("/fhir/")
        }
        assert all(schema["format"] == "uuid" for schema in ours.values())


def test_every_operation_says_who_may_and_what_the_trail_calls_it(
    app: Flask, operations: dict[tuple[str, str], Any]
) -> None:
    """As declared; public are those on the list, and nothing else."""
    for rule, method, declaration in declared_routes(app):
        operation = operations[method.lower(), re.sub(r"<(?:[^<>]*?:)?(\w+)>", r"{\1}", rule.rule)]
        assert operation["x-permission"] == declaration.permission
        assert operation["x-audit"] == declaration.audit
        assert (operation["security"] == []) == (rule.endpoint in PUBLIC)


def test_whatever_changes_or_shows_people_leaves_a_trail(operations: dict[tuple[str, str], Any]) -> None:
    """Every call that is no GET, and every GET of patients, appointments or accounts."""
    silent = {key for key, operation in operations.items() if not operation["x-audit"]}
    about_people = ("/api/v1/patients", "/api/v1/appointments", "/api/v1/users", "/fhir/R4/Patient")
    free_times = {("post", "/fhir/R4/Slot/_search"), ("post", "/fhir/R4/Appointment/$find")}  # a GET by other means
    assert {key for key in silent if key[0] != "get"} == free_times
    assert {(method, path) for method, path in silent if path.startswith(about_people)} == set()


OAUTH = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")
OAUTH_REFUSALS = {(("post", path), status): "application/json" for path in OAUTH for status in ("400", "401")}
"""What RFC 6749 has a shape of its own for."""


def test_every_refusal_is_a_problem_document(operations: dict[tuple[str, str], Any]) -> None:
    """With the codes that it can have; FHIR has a form of its own."""
    for key, operation in operations.items():
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        fhir, page = key[1].startswith("/fhir/"), key[1].startswith("/oauth/authorize")
        assert "422" in refusals or fhir or page, key
        usual = "application/fhir+json" if fhir else "text/html" if page else "application/problem+json"
        for status, answer in refusals.items():
            assert list(answer["content"]) == [OAUTH_REFUSALS.get((key, status), usual)]
            assert re.search(r"`[a-z_]+`: \S", answer["description"])


def test_every_success_has_the_request_id(operations: dict[tuple[str, str], Any]) -> None:
    """And exactly one of them is there."""
    for operation in operations.values():
        [success] = [answer for status, answer in operation["responses"].items() if status < "400"]
        assert success["headers"]["X-Request-ID"]["required"]


def test_lists_have_one_shape(served: dict[str, Any], operations: dict[tuple[str, str], Any]) -> None:
    """Items and next; limit and cursor."""
    pages = [
        operation
        for operation in operations.values()
        if {"limit", "cursor"} & {one["name"] for one in operation["parameters"]}
    ]
    assert len(pages) >= 8
    for operation in pages:
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        page = served["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert set(page["properties"]) == {"items", "next"}
        assert {"limit", "cursor"} <= {one["name"] for one in operation["parameters"]}


def test_no_shape_takes_unknown_fields(served: dict[str, Any], operations: dict[tuple[str, str], Any]) -> None:
    """What a body may hold is all that it may hold; OAuth wants unknown parameters ignored, FHIR has its own rules."""
    bodies = [
        operation["requestBody"]
        for (_method, path), operation in operations.items()
        if "requestBody" in operation and not path.startswith("/oauth/") and not path.startswith("/fhir/")
    ]
    assert bodies
    for body in bodies:
        name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert served["components"]["schemas"][name]["additionalProperties"] is False
