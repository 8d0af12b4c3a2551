"""Resources one by one, and what is done with them, over HTTP. Source: https://hl7.org/fhir/R4/http.html."""

import re
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

import msgspec
from flask import Blueprint, request
from werkzeug.routing import BaseConverter

from medical.audit.events import Action
from medical.fhir import capability
from medical.fhir.outcome import FHIR, all_ok, outcome
from medical.fhir.wire import read_resource
from medical.platform.authz import current_actor
from medical.platform.errors import MalformedJson, NotFound, Stale, TooLarge
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import conditions, service
from medical.records.definitions import resource_types
from medical.records.errors import (
    Gone,
    InvalidResource,
    NotAcceptable,
    NotHere,
    PatientUnknown,
    SeveralMatch,
    UnknownParameter,
    UnreadableResource,
)
from medical.records.permissions import Permission
from medical.records.service import Stored
from medical.records.validation import Issue, validate

BASE = "/fhir/R4"
bp = Blueprint("fhir", __name__, url_prefix=BASE)


class FhirIdConverter(BaseConverter):
    """An id of FHIR's in a path, which no name of an operation is."""

    regex = r"[A-Za-z0-9\-.]{1,64}"


class FhirTypeConverter(BaseConverter):
    """The name of a type in a path; types begin with a capital letter, other names do not."""

    regex = r"[A-Z][A-Za-z]{1,63}"


CONVERTERS = {"fhir_id": FhirIdConverter, "fhir_type": FhirTypeConverter}
bp.record_once(lambda state: state.app.url_map.converters.update(CONVERTERS))

Json = dict[str, Any]
Query = Sequence[tuple[str, str]]
ETAG = re.compile(r'(?:W/)?"?([0-9]{1,9})"?')
READING = [MalformedJson, TooLarge, UnreadableResource]
WRITING = [NotFound, NotHere, NotAcceptable, *READING, InvalidResource, PatientUnknown]


@endpoint(bp.get("/metadata"), returns=(200, Json), media_type=FHIR, errors=[NotAcceptable], raw=True)
def show_capabilities(query: Query) -> Answer:
    """What this server does of FHIR R4, as a CapabilityStatement."""
    ensure_json(query)
    return Answer(200, {}, msgspec.json.encode(capability.statement(own_address() + BASE)))


@endpoint(
    bp.post("/<fhir_type:type_name>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(201, Json),
    media_type=FHIR,
    errors=[*WRITING, SeveralMatch, UnknownParameter],
    audit=Action.RECORD_CREATED,
)
def create(type_name: str, query: Query, body: bytes) -> Answer:
    """Keep a new resource under an id of ours; none is made where `If-None-Exist` finds one."""
    ensure_known(type_name, query)
    document, actor = read_resource(body, type_name), current_actor()
    if condition := request.headers.get("If-None-Exist"):
        conditions.lock([f"{type_name}?{condition}"])
        if there := conditions.match(actor, type_name, condition):
            return written(there, 200)
    return written(service.create(actor, document), 201)


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[NotFound, NotHere, NotAcceptable, Gone],
    audit=Action.RECORD_READ,
)
def read(type_name: str, fhir_id: str, query: Query) -> Answer:
    """Read a resource as it is now; 304 where the caller has it already."""
    ensure_known(type_name, query)
    stored = service.read(current_actor(), type_name, fhir_id)
    known = ETAG.fullmatch(request.headers.get("If-None-Match", "").strip())
    if known and int(known[1]) == stored.version:
        return Answer(304, headers_of(stored), b"")
    return shown(stored)


@endpoint(
    bp.put("/<fhir_type:type_name>/<fhir_id:fhir_id>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, Stale],
    audit=Action.RECORD_UPDATED,
)
def update(type_name: str, fhir_id: str, query: Query, body: bytes) -> Answer:
    """Write the next version of a resource, or the first under this id; `If-Match` names the version it replaces."""
    ensure_known(type_name, query)
    document = read_resource(body, type_name)
    if document.get("id") != fhir_id:
        raise UnreadableResource("The resource must have the id that the path says.")
    stored, first = service.replace(current_actor(), document, fhir_id, expected_version())
    return written(stored, 201 if first else 200)


@endpoint(
    bp.delete("/<fhir_type:type_name>/<fhir_id:fhir_id>"),
    permission=Permission.RECORD_DELETE,
    raw=True,
    returns=(204, None),
    media_type=FHIR,
    errors=[NotFound, NotHere, UnreadableResource, Stale, PatientUnknown],
    audit=Action.RECORD_DELETED,
)
def delete(type_name: str, fhir_id: str, query: Query) -> Answer:
    """Hide a resource: reading it answers 410, its former versions are kept, and writing it brings it back."""
    ensure_known(type_name, query)
    stored = service.delete(current_actor(), type_name, fhir_id, expected_version())
    return Answer(204, {"ETag": f'W/"{stored.version}"'}, b"")


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>/_history/<version>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[NotFound, NotHere, NotAcceptable, Gone],
    audit=Action.RECORD_READ,
)
def read_version(type_name: str, fhir_id: str, version: str, query: Query) -> Answer:
    """Read a resource as it was in a version."""
    ensure_known(type_name, query)
    if not ETAG.fullmatch(version):
        raise NotFound
    return shown(service.read_version(current_actor(), type_name, fhir_id, int(version)))


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>/_history"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[NotFound, NotHere, NotAcceptable],
    audit=Action.RECORD_HISTORY_READ,
)
def history(type_name: str, fhir_id: str, query: Query) -> Answer:
    """Read all versions of a resource, newest first."""
    ensure_known(type_name, query)
    versions = service.history(current_actor(), type_name, fhir_id)
    entries = [_version_entry(one) for one in versions]
    head = f'{{"resourceType":"Bundle","type":"history","total":{len(entries)},"entry":['
    return Answer(200, {}, head.encode() + b",".join(entries) + b"]}")


@endpoint(
    bp.post("/<fhir_type:type_name>/$validate"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[NotFound, NotHere, NotAcceptable, *READING],
    audit=Action.RECORD_VALIDATED,
)
def check(type_name: str, query: Query, body: bytes) -> Answer:
    """Say everything that is wrong with a resource, and keep nothing."""
    ensure_known(type_name, query)
    issues = validate(_resource_within(read_resource(body), type_name))
    return Answer(200, {}, msgspec.json.encode(outcome(issues) if issues else all_ok()))


def _resource_within(value: Json, type_name: str) -> Json:
    """The resource itself, or the one that Parameters carry."""
    if value["resourceType"] == "Parameters" and type_name != "Parameters":
        carried: Json = next((one for one in value.get("parameter", ()) if one.get("name") == "resource"), {})
        value = carried.get("resource", {})
    if value.get("resourceType") != type_name:
        raise UnreadableResource("The resource is of another type than the path says.")
    return value


def _version_entry(stored: Stored) -> bytes:
    """A version in a history, with how it came about."""
    method = "DELETE" if stored.deleted else "POST" if stored.version == 1 else "PUT"
    url = stored.type if method == "POST" else f"{stored.type}/{stored.fhir_id}"
    status = {"DELETE": "204", "POST": "201", "PUT": "200"}[method]
    about = {
        "fullUrl": f"{own_address()}{BASE}/{stored.type}/{stored.fhir_id}",
        "request": {"method": method, "url": url},
        "response": {"status": status, "etag": f'W/"{stored.version}"', "lastModified": stored.updated_at.isoformat()},
    }
    text = msgspec.json.encode(about)
    return text if stored.body is None else text[:-1] + b',"resource":' + stored.body.encode() + b"}"


def ensure_known(type_name: str, query: Query) -> None:
    """Raise ``NotFound`` for what is no type, ``NotHere``, or ``NotAcceptable`` for what is no JSON."""
    if type_name not in resource_types():
        raise NotFound
    if type_name not in capability.TYPES:
        raise NotHere
    ensure_json(query)


def ensure_json(query: Query) -> None:
    """Raise ``NotAcceptable`` where the caller reads other formats only."""
    wanted = dict(query).get("_format") or request.headers.get("Accept", "")
    if wanted and not any(one in wanted for one in ("json", "*/*", "application/*")):
        raise NotAcceptable


def expected_version() -> int | None:
    """The version that `If-Match` names, if it does. Raises ``UnreadableResource``."""
    header = request.headers.get("If-Match", "").strip()
    if not header:
        return None
    if not (match := ETAG.fullmatch(header)):
        raise UnreadableResource('If-Match must be an ETag like W/"3".')
    return int(match[1])


def headers_of(stored: Stored) -> dict[str, str]:
    """Which version it is, and since when."""
    return {
        "ETag": f'W/"{stored.version}"',
        "Last-Modified": format_datetime(stored.updated_at, usegmt=True),
    }


def shown(stored: Stored) -> Answer:
    """A resource that was read."""
    return Answer(200, headers_of(stored), (stored.body or "").encode())


def written(stored: Stored, status: int) -> Answer:
    """A resource that was written: all of it, or as much as `Prefer` asks for."""
    place = f"{own_address()}{BASE}/{stored.type}/{stored.fhir_id}/_history/{stored.version}"
    headers = headers_of(stored) | {"Location": place}
    preferred = request.headers.get("Prefer", "")
    if "return=minimal" in preferred:
        return Answer(status, headers, b"")
    if "return=OperationOutcome" in preferred:
        said = Issue(
            "informational", stored.type, f"{stored.type}/{stored.fhir_id} is kept as version {stored.version}."
        )
        return Answer(status, headers, msgspec.json.encode(outcome([said], "information")))
    return Answer(status, headers, (stored.body or "").encode())
