"""The OpenAPI 3.1 document, made from the declarations of the routes, and Swagger UI to try it."""

from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from inspect import getdoc, signature
from typing import Any

import msgspec
from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.routing import Rule

from medical import __version__
from medical.platform import errors
from medical.platform.errors import AppError, Problem
from medical.platform.http import FORM, JSON, Declaration, declared_routes, endpoint

bp = Blueprint("docs", __name__, url_prefix="/api")

REF = "#/components/schemas/{name}"
ANYTHING = {"type": "object", "description": "A resource of FHIR R4; what it may have, HL7's definitions say."}
SCALARS: dict[str, dict[str, Any]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "int": {"type": "integer"},
    "default": {"type": "string"},
}
DESCRIPTION = (
    "The backend a clinic runs: accounts and roles, availabilities, appointments, patients. "
    "Sign in with `POST /api/v1/auth/login`, then send the access token as a bearer token. "
    "Errors are RFC 9457 problem documents with a stable `code`."
)
ASSETS = {
    "swagger-ui-bundle.js": ("offapi", "swagger_bundle.js", "text/javascript"),
    "swagger-ui-preset.js": ("offapi", "swagger_preset.js", "text/javascript"),
    "swagger-ui.css": ("offapi", "swagger_style.css", "text/css"),
    "start.js": ("medical.platform", "swagger_start.js", "text/javascript"),
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Medical Backend API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs/swagger-ui-preset.js"></script>
<script src="/api/docs/start.js"></script>
</body>
</html>
"""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@endpoint(bp.get("/openapi.json"), returns=(200, dict[str, Any]))
def show_document() -> dict[str, Any]:
    """This document."""
    made: dict[str, Any] | None = current_app.extensions.get("openapi")
    if made is None:
        made = current_app.extensions["openapi"] = document(current_app)
    return made


@endpoint(bp.get("/docs"), returns=(200, str), media_type="text/html; charset=utf-8")
def show_page() -> str:
    """Swagger UI, served from here alone."""
    return PAGE


@endpoint(
    bp.get("/docs/<any('swagger-ui-bundle.js','swagger-ui-preset.js','swagger-ui.css','start.js'):name>"),
    returns=(200, str),
    media_type="*/*",
)
def show_asset(name: str) -> bytes:
    """A file of Swagger UI."""
    package, source, _ = ASSETS[name]
    return files(package).joinpath(source).read_bytes()


@bp.after_request
def _dress(response: Response) -> Response:
    """The page may load its own assets; assets have types of their own, and are kept."""
    if response.status_code == 200 and request.endpoint == "docs.show_page":
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    if response.status_code == 200 and (name := (request.view_args or {}).get("name")):
        response.content_type = ASSETS[name][2]
        response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def document(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of every route of ``app``."""
    routes = list(declared_routes(app))
    plain = [one for _, _, one in routes if not one.raw]
    shapes = {shape for one in plain for shape in (one.body, one.query, one.answer)} - {None, str}
    shapes |= {one.form for _, _, one in routes if one.form}
    shapes |= {Problem} | {error.shape for _, _, one in routes for error in one.errors}
    ordered = sorted(shapes, key=repr)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REF)
    schema_of = {id(shape): schema for shape, schema in zip(ordered, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for rule, method, declaration in routes:
        view = app.view_functions[rule.endpoint]
        operation = _operation(rule, declaration, view, schema_of, components)
        paths[_path(rule)][method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Medical Backend",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in app.blueprints],
        "paths": dict(paths),
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _path(rule: Rule) -> str:
    return "".join(f"{{{part}}}" if dynamic else part for dynamic, part in rule._trace if part != "|")


def _operation(
    rule: Rule, declaration: Declaration, view: Any, schema_of: dict[int, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary, _, description = (getdoc(view) or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.split(".")[0]],
        "summary": summary.strip().removesuffix("."),
        "description": description.strip(),
        "security": [] if declaration.public else [{"bearer": []}],
        "x-permission": declaration.permission,
        "x-audit": declaration.audit,
        "x-smart": declaration.smart,
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(declaration, components),
            *_headers(declaration),
        ],
        "responses": _responses(rule, declaration, schema_of),
    }
    if declaration.body:
        schema = schema_of[id(declaration.body)]
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if declaration.raw and "body" in signature(view).parameters:
        operation["requestBody"] = {"required": True, "content": {declaration.media_type: {"schema": ANYTHING}}}
    if declaration.form:
        schema = schema_of[id(declaration.form)]
        operation["requestBody"] = {"required": True, "content": {FORM: {"schema": schema}}}
    return operation


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    found = []
    for name in sorted(rule.arguments):
        converter = rule._converters[name]
        schema: dict[str, Any] = SCALARS.get(
            type(converter).__name__.removesuffix("Converter").lower(), {"type": "string"}
        )
        if items := getattr(converter, "items", None):
            schema = {"type": "string", "enum": sorted(items)}
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    return found


def _query_parameters(declaration: Declaration, components: dict[str, Any]) -> list[dict[str, Any]]:
    if not declaration.query:
        return []
    schema = components[declaration.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(shape)}
        for name, shape in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is absent, never null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name != "anyOf" and not (name == "default" and not value)}
    return rest | kinds[0] if len(kinds) == 1 else schema


def _headers(declaration: Declaration) -> list[dict[str, Any]]:
    found = []
    if declaration.idempotent:
        text = "The same key with the same request gives the first answer again, for 24 hours."
        schema = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"}
        found.append({"name": "Idempotency-Key", "in": "header", "schema": schema, "description": text})
    if declaration.if_match:
        text = "The ETag of what the change is based on; refused when it is no longer the present version."
        schema = {"type": "string", "pattern": '^"[0-9]{1,9}"$'}
        found.append({"name": "If-Match", "in": "header", "schema": schema, "description": text})
    return found


def _responses(rule: Rule, declaration: Declaration, schema_of: dict[int, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done.", "headers": _answer_headers(declaration)}
    if declaration.answer is str:
        success["content"] = {declaration.media_type.partition(";")[0]: {"schema": {"type": "string"}}}
    elif declaration.raw and declaration.answer is not None:
        success["content"] = {declaration.media_type: {"schema": ANYTHING}}
    elif declaration.answer is not None:
        success["content"] = {JSON: {"schema": schema_of[id(declaration.answer)]}}
    found = {str(declaration.status): success}
    by_status: dict[int, list[type[AppError]]] = defaultdict(list)
    for error in dict.fromkeys([*_general_errors(rule, declaration), *declaration.errors]):
        by_status[error.status].append(error)
    for status, kinds in sorted(by_status.items()):
        found[str(status)] = _own_response(rule, declaration, kinds) if declaration.raw else _problem_response(kinds)
    return found


def _own_response(rule: Rule, declaration: Declaration, kinds: Iterable[type[AppError]]) -> dict[str, Any]:
    """A refusal in the form that these calls have for it: an OperationOutcome, or a page."""
    fhir = rule.rule.startswith("/fhir/")
    media_type = "application/fhir+json" if fhir else declaration.media_type.partition(";")[0]
    return _problem_response(kinds) | {"content": {media_type: {"schema": ANYTHING if fhir else {"type": "string"}}}}


def _problem_response(kinds: Iterable[type[AppError]]) -> dict[str, Any]:
    lines = [f"`{kind.code}`: {(getdoc(kind) or kind.title).splitlines()[0]}" for kind in kinds]
    shapes: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for kind in kinds:
        shapes[kind.media_type][kind.shape.__name__] = {"$ref": REF.format(name=kind.shape.__name__)}
    return {
        "description": "\n\n".join(lines),
        "content": {media_type: {"schema": _any_of([*refs.values()])} for media_type, refs in shapes.items()},
    }


def _any_of(schemas: list[dict[str, str]]) -> dict[str, Any]:
    """The schema, or any of several."""
    return {"anyOf": schemas} if len(schemas) > 1 else {**schemas[0]}


def _answer_headers(declaration: Declaration) -> dict[str, Any]:
    headers = {"X-Request-ID": {"schema": {"type": "string"}, "required": True}}
    if declaration.max_age is not None:
        headers["Cache-Control"] = {"schema": {"type": "string"}, "required": True}
    if declaration.etag:
        headers["ETag"] = {"schema": {"type": "string"}, "required": True}
    if declaration.idempotent:
        headers["Idempotency-Replayed"] = {"schema": {"type": "string", "enum": ["true"]}}
    return headers


def _general_errors(rule: Rule, declaration: Declaration) -> Iterable[type[AppError]]:
    """The refusals that follow from the declaration itself."""
    if not declaration.public:
        yield from (errors.Unauthenticated, errors.Forbidden)
        if declaration.step_up:
            yield errors.StepUpRequired
        if not declaration.own_sign_in:
            yield errors.SecondFactorRequired
    if rule.arguments:
        yield errors.NotFound
    if declaration.body:
        yield errors.MalformedJson
    if declaration.body or declaration.form:
        yield from (errors.TooLarge, errors.UnsupportedMediaType)
    if not declaration.raw:
        yield errors.InvalidRequest
    if declaration.idempotent:
        yield errors.IdempotencyKeyReused
    if declaration.if_match:
        yield errors.Stale
    if rule.rule.startswith(("/api/v1", "/fhir/", "/oauth", "/.well-known/jwks")):
        yield from (errors.DatabaseUnreachable, errors.DatabaseBusy, errors.SchemaBehind)
