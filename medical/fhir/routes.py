"""Resources one by one, and what is done with them, over HTTP. Source: https://hl7.org/fhir/R4/http.html."""

import re
from collections.abc import Sequence
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlencode

import msgspec
from flask import Blueprint, request
from werkzeug.routing import BaseConverter

from medical.audit.events import Action
from medical.fhir import capability
from medical.fhir.joined import BASE, Json, address_of
from medical.fhir.outcome import FHIR, all_ok, outcome
from medical.fhir.wire import JSON_PATCH, read_json, read_resource
from medical.people.errors import IdentifierTaken, PatientMerged
from medical.platform.authz import current_actor
from medical.platform.errors import MalformedJson, NotFound, Stale, TooLarge, UnsupportedMediaType
from medical.platform.http import FORM, JSON, endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import conditions, service, turns
from medical.records.definitions import resource_types
from medical.records.errors import (
    Gone,
    InvalidResource,
    KeptElsewhere,
    NotAcceptable,
    NotHere,
    PatchRefused,
    PatientIncomplete,
    PatientUnknown,
    SeveralMatch,
    UnknownParameter,
    UnreadableResource,
)
from medical.records.permissions import Permission
from medical.records.service import Stored
from medical.records.validation import Issue, validate
from medical.smart import configuration

bp = Blueprint("fhir", __name__, url_prefix=BASE)


class FhirIdConverter(BaseConverter):
    """An id of FHIR's in a path, which no name of an operation is."""

    regex = r"[A-Za-z0-9\-.]{1,64}"


class FhirTypeConverter(BaseConverter):
    """The name of a type in a path; types begin with a capital letter, other names do not."""

    regex = r"[A-Z][A-Za-z]{1,63}"


CONVERTERS = {"fhir_id": FhirIdConverter, "fhir_type": FhirTypeConverter}
bp.record_once(lambda state: state.app.url_map.converters.update(CONVERTERS))

Query = Sequence[tuple[str, str]]
ETAG = re.compile(r'(?:W/)?"?([0-9]{1,9})"?')
OF_TYPE = [NotFound, NotHere, NotAcceptable]
READING = [MalformedJson, TooLarge, UnsupportedMediaType, UnreadableResource]
WRITING = [
    *OF_TYPE,
    *READING,
    InvalidResource,
    KeptElsewhere,
    PatientUnknown,
    PatientIncomplete,
    IdentifierTaken,
    PatientMerged,
]
BODIES = (FHIR, JSON, "application/json+fhir")
"""Media types of a body; clients of FHIR spell it in each of these ways."""


@endpoint(bp.get("/metadata"), returns=(200, Json), media_type=FHIR, errors=[NotAcceptable], raw=True)
def show_capabilities(query: Query) -> Answer:
    """What this server does of FHIR R4, as a CapabilityStatement."""
    ensure_json(query)
    return Answer(200, {}, msgspec.json.encode(capability.statement(own_address() + BASE)))


@endpoint(bp.get("/.well-known/smart-configuration"), returns=(200, Json), media_type=JSON, raw=True)
def show_smart_configuration(query: Query) -> Answer:
    """Where apps get their tokens, and what they can ask for (SMART App Launch 2.2)."""
    return Answer(200, {}, msgspec.json.encode(configuration.document(own_address())))


@endpoint(
    bp.post("/<fhir_type:type_name>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(201, Json),
    media_type=FHIR,
    errors=[*WRITING, SeveralMatch, UnknownParameter],
    audit=Action.RECORD_CREATED,
    smart="c",
)
def create(type_name: str, query: Query, body: bytes) -> Answer:
    """Keep a new resource under an id of ours; none is made where `If-None-Exist` finds one."""
    ensure_known(type_name, query)
    document, actor = received(body, type_name), current_actor()
    if condition := request.headers.get("If-None-Exist"):
        turns.lock([conditions.turn_of(type_name, condition)])
        if there := conditions.match(actor, type_name, condition):
            return written(there, 200)
    return written(service.create(actor, document), 201)


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, Gone],
    audit=Action.RECORD_READ,
    smart="r",
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
    smart="cu",
)
def update(type_name: str, fhir_id: str, query: Query, body: bytes) -> Answer:
    """Write the next version of a resource, or the first under this id; `If-Match` names the version it replaces."""
    ensure_known(type_name, query)
    document = received(body, type_name)
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
    errors=[*OF_TYPE, UnreadableResource, KeptElsewhere, Stale, PatientUnknown],
    audit=Action.RECORD_DELETED,
    smart="d",
)
def delete(type_name: str, fhir_id: str, query: Query) -> Answer:
    """Hide a resource: reading it answers 410, its former versions are kept, and writing it brings it back."""
    ensure_known(type_name, query)
    stored = service.delete(current_actor(), type_name, fhir_id, expected_version())
    return Answer(204, {"ETag": f'W/"{stored.version}"'}, b"")


@endpoint(
    bp.patch("/<fhir_type:type_name>/<fhir_id:fhir_id>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, PatchRefused, Gone, Stale],
    audit=Action.RECORD_UPDATED,
    smart="u",
)
def patch(type_name: str, fhir_id: str, query: Query, body: bytes) -> Answer:
    """Change parts of a resource by a JSON Patch, all of it or none; `If-Match` names the version it is for."""
    ensure_known(type_name, query)
    operations = operations_of(body)
    return written(service.patch(current_actor(), type_name, fhir_id, operations, expected_version()), 200)


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>/_history/<version>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, Gone],
    audit=Action.RECORD_READ,
    smart="r",
)
def read_version(type_name: str, fhir_id: str, version: str, query: Query) -> Answer:
    """Read a resource as it was in a version."""
    ensure_known(type_name, query)
    if not ETAG.fullmatch(version):
        raise NotFound
    return shown(service.read_version(current_actor(), type_name, fhir_id, int(version)))


@endpoint(
    bp.put("/<fhir_type:type_name>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, Stale, SeveralMatch, UnknownParameter],
    audit=Action.RECORD_UPDATED,
    smart="cu",
)
def update_by_condition(type_name: str, query: Query, body: bytes) -> Answer:
    """Write the next version of the one resource that the parameters find, or the first where they find none."""
    ensure_known(type_name, query)
    document, actor = received(body, type_name), current_actor()
    there = _by_condition(type_name, query)
    fhir_id = document.get("id") or (there.fhir_id if there else None)
    if there and fhir_id != there.fhir_id:
        raise UnreadableResource("The resource has another id than the one that the parameters find.")
    if fhir_id is None:
        return written(service.create(actor, document), 201)
    stored, first = service.replace(actor, document | {"id": fhir_id}, fhir_id, expected_version())
    return written(stored, 201 if first else 200)


@endpoint(
    bp.patch("/<fhir_type:type_name>"),
    permission=Permission.RECORD_EDIT,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, PatchRefused, Gone, Stale, SeveralMatch, UnknownParameter],
    audit=Action.RECORD_UPDATED,
    smart="u",
)
def patch_by_condition(type_name: str, query: Query, body: bytes) -> Answer:
    """Change parts of the one resource that the parameters find."""
    ensure_known(type_name, query)
    operations = operations_of(body)
    there = _by_condition(type_name, query)
    if there is None:
        raise NotFound
    return written(service.patch(current_actor(), type_name, there.fhir_id, operations, expected_version()), 200)


@endpoint(
    bp.delete("/<fhir_type:type_name>"),
    permission=Permission.RECORD_DELETE,
    raw=True,
    returns=(204, None),
    media_type=FHIR,
    errors=[*OF_TYPE, UnreadableResource, KeptElsewhere, Stale, PatientUnknown, SeveralMatch, UnknownParameter],
    audit=Action.RECORD_DELETED,
    smart="d",
)
def delete_by_condition(type_name: str, query: Query) -> Answer:
    """Hide the one resource that the parameters find; nothing where they find none, or several (412)."""
    ensure_known(type_name, query)
    there = _by_condition(type_name, query)
    if there is None:
        return Answer(204, {}, b"")
    stored = service.delete(current_actor(), type_name, there.fhir_id, expected_version())
    return Answer(204, {"ETag": f'W/"{stored.version}"'}, b"")


@endpoint(
    bp.post("/<fhir_type:type_name>/$validate"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, *READING],
    audit=Action.RECORD_VALIDATED,
    smart="cruds",
)
def check(type_name: str, query: Query, body: bytes) -> Answer:
    """Say everything that is wrong with a resource, and keep nothing."""
    ensure_known(type_name, query)
    issues = validate(_resource_within(received(body), type_name))
    return Answer(200, {}, msgspec.json.encode(outcome(issues) if issues else all_ok()))


def _by_condition(type_name: str, query: Query) -> Stored | None:
    """The one resource that the parameters find, and the turn at whatever they find."""
    condition = urlencode([(name, value) for name, value in query if name not in ("_format", "_pretty")])
    turns.lock([conditions.turn_of(type_name, condition)])
    return conditions.match(current_actor(), type_name, condition)


def operations_of(body: bytes) -> object:
    """The operations of a JSON Patch, as they came."""
    if request.mimetype != JSON_PATCH:
        raise UnsupportedMediaType(f"Send the changes as {JSON_PATCH}.")
    return read_json(body)


def form_of(body: bytes) -> Query:
    """The parameters of a form. Raises ``UnsupportedMediaType`` or ``UnknownParameter``."""
    if request.mimetype != FORM:
        raise UnsupportedMediaType(f"Send the parameters as {FORM}.")
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise UnknownParameter("The form cannot be read.") from None


def _resource_within(value: Json, type_name: str) -> Json:
    """The resource itself, or the one that Parameters carry."""
    if value["resourceType"] == "Parameters" and type_name != "Parameters":
        listed = value.get("parameter")
        carried = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        found = next((one.get("resource") for one in carried if one.get("name") == "resource"), None)
        value = found if isinstance(found, dict) else {}
    if value.get("resourceType") != type_name:
        raise UnreadableResource("The resource is of another type than the path says.")
    return value


def received(body: bytes, type_name: str | None = None) -> Json:
    """The resource of a body. Raises ``UnsupportedMediaType`` and what ``read_resource`` raises."""
    if request.mimetype not in BODIES:
        raise UnsupportedMediaType(f"Send the body as {FHIR}.")
    return read_resource(body, type_name)


def ensure_known(type_name: str, query: Query) -> None:
    """Raise what ``ensure_type`` raises, or ``NotAcceptable`` for what is no JSON."""
    ensure_type(type_name)
    ensure_json(query)


def ensure_type(type_name: str) -> None:
    """Raise ``NotFound`` for what is no type, or ``NotHere``."""
    if type_name not in resource_types():
        raise NotFound
    if type_name not in capability.TYPES:
        raise NotHere


def ensure_json(query: Query) -> None:
    """Raise ``NotAcceptable`` where the caller reads other formats only."""
    wanted = dict(query).get("_format") or request.headers.get("Accept", "")
    if wanted and not any(one in wanted for one in ("json", "*/*", "application/*")):
        raise NotAcceptable


def expected_version() -> int | None:
    """The version that `If-Match` names, if it does. Raises ``UnreadableResource``."""
    header = request.headers.get("If-Match", "").strip()
    return version_of(header) if header else None


def version_of(etag: str) -> int:
    """The version that an ETag means. Raises ``UnreadableResource``."""
    if not (match := ETAG.fullmatch(etag)):
        raise UnreadableResource('A version is named by an ETag like W/"3".')
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
    """A resource that was written: all of it, or as much as `Prefer` asks for; nothing of it for who may not read."""
    headers = headers_of(stored) | {"Location": f"{address_of(stored)}/_history/{stored.version}"}
    preferred = request.headers.get("Prefer", "")
    if "return=minimal" in preferred or not service.is_readable(current_actor(), stored):
        return Answer(status, headers, b"")
    if "return=OperationOutcome" in preferred:
        said = Issue(
            "informational", stored.type, f"{stored.type}/{stored.fhir_id} is kept as version {stored.version}."
        )
        return Answer(status, headers, msgspec.json.encode(outcome([said], "information")))
    return Answer(status, headers, (stored.body or "").encode())
