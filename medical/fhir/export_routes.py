"""Bulk Data Access over HTTP. Source: https://hl7.org/fhir/uv/bulkdata/STU2/export.html."""

from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

import msgspec
from flask import Blueprint, request

from medical.audit.events import Action
from medical.fhir.joined import BASE, Json
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, Query, ensure_json
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import JSON, endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import bulk
from medical.records.bulk import KEPT, Wanted
from medical.records.errors import ExportFailed, TooManyExports, UnknownParameter
from medical.records.permissions import Permission
from medical.records.values import span_asked

bp = Blueprint("fhir-export", __name__, url_prefix=BASE)

NDJSON = "application/fhir+ndjson"
FORMATS = (NDJSON, "application/ndjson", "ndjson")
PARAMETERS = {"_outputFormat", "_since", "_type", "_format", "_pretty"}
ASKING = [*OF_TYPE, TooManyExports, UnknownParameter]


@endpoint(
    bp.get("/$export"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(202, None),
    media_type=FHIR,
    errors=ASKING,
    audit=Action.EXPORT_ASKED,
    smart="s",
)
def ask_all(query: Query) -> Answer:
    """Have all records written to files in the background; `Content-Location` says where to ask how far that is.

    Takes `_type`, `_since` and `_outputFormat`; the background is the only way, whether or not `Prefer` asks for it.
    """
    return _asked(query, Wanted(request.url))


@endpoint(
    bp.get("/Patient/$export"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(202, None),
    media_type=FHIR,
    errors=ASKING,
    audit=Action.EXPORT_ASKED,
    smart="s",
)
def ask_patients(query: Query) -> Answer:
    """Have the records of all patients written to files in the background."""
    return _asked(query, Wanted(request.url, of_patients=True))


@endpoint(
    bp.get("/Group/<fhir_id:fhir_id>/$export"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(202, None),
    media_type=FHIR,
    errors=ASKING,
    audit=Action.EXPORT_ASKED,
    smart="s",
)
def ask_group(fhir_id: str, query: Query) -> Answer:
    """Have the records of the patients in a Group written to files in the background."""
    return _asked(query, Wanted(request.url, of_patients=True, group_id=fhir_id))


@endpoint(
    bp.get("/$export/<uuid:export_id>"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(200, Json),
    media_type=JSON,
    errors=[NotFound, ExportFailed],
    audit=Action.EXPORT_READ,
    smart="s",
)
def show(export_id: UUID, query: Query) -> Answer:
    """How far an export of the caller's is (202), or where its files are (200), for 24 hours."""
    export = bulk.get(current_actor(), export_id)
    if export.completed_at is None:
        progress = f"{export.reached} of {len(export.types)} types of resources"
        return Answer(202, {"X-Progress": progress, "Retry-After": "2"}, b"")
    here = f"{own_address()}{BASE}/$export/{export.id}"
    manifest = {
        "transactionTime": export.created_at.isoformat(),
        "request": export.request,
        "requiresAccessToken": True,
        "output": [
            {"type": type_name, "url": f"{here}/{number}.ndjson", "count": count}
            for number, type_name, count in bulk.files_of(export)
        ],
        "error": [],
    }
    headers = {"Expires": format_datetime(export.completed_at + KEPT, usegmt=True)}
    return Answer(200, headers, msgspec.json.encode(manifest))


@endpoint(
    bp.delete("/$export/<uuid:export_id>"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(202, None),
    media_type=FHIR,
    errors=[NotFound],
    audit=Action.EXPORT_DELETED,
    smart="s",
)
def remove(export_id: UUID, query: Query) -> Answer:
    """Forget an export of the caller's, and whatever was written of it."""
    bulk.remove(current_actor(), export_id)
    return Answer(202, {}, b"")


@endpoint(
    bp.get("/$export/<uuid:export_id>/<int:number>.ndjson"),
    permission=Permission.RECORD_EXPORT,
    raw=True,
    returns=(200, Json),
    media_type=NDJSON,
    errors=[NotFound, ExportFailed],
    audit=Action.EXPORT_READ,
    smart="s",
)
def read_file(export_id: UUID, number: int, query: Query) -> Answer:
    """A file of an export: a resource in each line."""
    return Answer(200, {}, bulk.content_of(current_actor(), export_id, number))


def _asked(query: Query, wanted: Wanted) -> Answer:
    """That an export will be written. Raises what ``ask`` raises, or ``NotAcceptable``."""
    ensure_json(query)
    given = dict(query)
    if given.get("_outputFormat", NDJSON) not in FORMATS:
        raise UnknownParameter(f"`_outputFormat` is {NDJSON}.")
    unknown = sorted({name for name, _ in query} - PARAMETERS)
    if unknown and "handling=lenient" not in request.headers.get("Prefer", ""):
        raise UnknownParameter(f"There is no parameter {', '.join(unknown)[:200]} here.")
    types = [one for name, value in query if name == "_type" for one in value.split(",") if one]
    export = bulk.ask(current_actor(), wanted._replace(types=types, since=_since(given.get("_since"))))
    return Answer(202, {"Content-Location": f"{own_address()}{BASE}/$export/{export.id}"}, b"")


def _since(text: str | None) -> datetime | None:
    return span_asked(text)[0] if text else None
