"""Batches and transactions: many requests in one. Source: https://hl7.org/fhir/R4/http.html#transaction."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from flask import Blueprint
from msgspec import Struct

from medical.audit.events import Action
from medical.fhir.joined import BASE, Json, address_of, bundle_of, entry_of
from medical.fhir.outcome import FHIR, refusal_document
from medical.fhir.routes import WRITING, Query, ensure_json, ensure_type, received, version_of
from medical.fhir.search_routes import found_bundle
from medical.fhir.wire import JSON_PATCH, read_json
from medical.platform import authz
from medical.platform.authz import Actor, current_actor
from medical.platform.db import db
from medical.platform.errors import AppError, Stale
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import service
from medical.records.definitions import resource_types
from medical.records.errors import (
    Gone,
    NothingMatches,
    PatchRefused,
    SeveralMatch,
    UnknownParameter,
    UnreadableResource,
)
from medical.records.permissions import Permission
from medical.records.transactions import NEEDED, Act, Done, carry_out

bp = Blueprint("fhir-bundles", __name__, url_prefix=BASE)

MOST_ENTRIES = 5000
URL = re.compile(r"(?P<type>[A-Z][A-Za-z]*)(?:/(?P<id>[A-Za-z0-9\-.]{1,64}))?(?:\?(?P<query>.*))?")


class Request(Struct):
    """What an entry asks for, as FHIR names it."""

    method: str
    url: str
    ifMatch: str | None = None  # noqa: N815 - FHIR's name
    ifNoneExist: str | None = None  # noqa: N815 - FHIR's name


class Given(Struct):
    """An entry as it came; what else it has, matters for nothing here."""

    request: Request
    resource: Json | None = None
    fullUrl: str | None = None  # noqa: N815 - FHIR's name


class Reading(NamedTuple):
    """A GET of a bundle: of one resource, or a search."""

    number: int
    type: str
    fhir_id: str | None
    query: str


@endpoint(
    bp.post("", strict_slashes=False),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, PatchRefused, Gone, NothingMatches, SeveralMatch, Stale, UnknownParameter],
    audit=Action.RECORDS_WRITTEN,
    smart="cruds",
)
def process(query: Query, body: bytes) -> Answer:
    """Carry out a batch, each entry by itself, or a transaction, all of them or none.

    In a transaction, entries refer to each other by `urn:uuid:` and to what is there by `Type?parameter=value`.
    """
    ensure_json(query)
    bundle = received(body, "Bundle")
    actor = current_actor()
    if bundle.get("type") == "transaction":
        answers = _transaction(actor, _listed(bundle))
    elif bundle.get("type") == "batch":
        answers = _batch(actor, _listed(bundle))
    else:
        raise UnreadableResource("The Bundle must be a batch or a transaction.")
    return Answer(200, {}, bundle_of({"type": f"{bundle['type']}-response"}, answers))


def _listed(bundle: Json) -> list[Any]:
    """What a bundle has entries of. Raises ``UnreadableResource``."""
    listed = bundle.get("entry", [])
    if not isinstance(listed, list) or len(listed) > MOST_ENTRIES:
        raise UnreadableResource(f"A Bundle has a list of at most {MOST_ENTRIES} entries.")
    return listed


def request_of(number: int, given: Any, base: str) -> Act | Reading:
    """What an entry of a bundle asks for. Raises ``UnreadableResource`` or ``NotHere``, naming the entry."""
    try:
        asked = msgspec.convert(given, Given)
    except msgspec.ValidationError:
        raise UnreadableResource(f"Bundle.entry[{number}] is no request.") from None
    method, request = asked.request.method, asked.request
    url = URL.fullmatch(request.url.removeprefix(base).lstrip("/"))
    if method not in (*NEEDED, "GET") or not url or url["type"] not in resource_types():
        raise UnreadableResource(f"Bundle.entry[{number}] asks for what there is not.")
    ensure_type(url["type"])
    if method == "GET":
        return Reading(number, url["type"], url["id"], url["query"] or "")
    if method in ("POST", "PUT") and (asked.resource or {}).get("resourceType") != url["type"]:
        raise UnreadableResource(f"Bundle.entry[{number}] has no resource of the type that it names.")
    return Act(
        number=number,
        method=method,
        type=url["type"],
        fhir_id=url["id"],
        query=url["query"] or "",
        resource=None if method == "PATCH" else asked.resource,
        operations=_operations(number, asked.resource or {}) if method == "PATCH" else None,
        full_url=asked.fullUrl,
        if_none_exist=request.ifNoneExist,
        if_match=version_of(request.ifMatch) if request.ifMatch else None,
    )


def _operations(number: int, binary: Json) -> Any:
    """A JSON Patch, which a Bundle has as a Binary. Raises ``UnreadableResource``."""
    if binary.get("resourceType") != "Binary" or binary.get("contentType") != JSON_PATCH:
        raise UnreadableResource(f"Bundle.entry[{number}] has no Binary of {JSON_PATCH}.")
    try:
        return read_json(base64.b64decode(str(binary.get("data")), validate=True))
    except binascii.Error:
        raise UnreadableResource(f"Bundle.entry[{number}].resource.data is not base64.") from None


def _batch(actor: Actor, listed: Sequence[Any]) -> list[bytes]:
    """Each entry as if it came alone; what is refused undoes nothing of the others."""
    answers = []
    for number, given in enumerate(listed):
        savepoint = db.session.begin_nested()
        try:
            [answer] = _transaction(actor, [given], number)
            savepoint.commit()
        except AppError as refusal:
            savepoint.rollback()
            _, told = refusal_document(refusal, "")
            answer = b'{"response":{"status":"%d","outcome":%s}}' % (refusal.status, told)
        answers.append(answer)
    return answers


def _transaction(actor: Actor, listed: Sequence[Any], first: int = 0) -> list[bytes]:
    """The answers to the entries, in their order, all of which went through; what is read is read last."""
    base = f"{own_address()}{BASE}/"
    asked = [request_of(number, given, base) for number, given in enumerate(listed, first)]
    acts = [one for one in asked if isinstance(one, Act)]
    if len(acts) < len(asked):
        authz.ensure_holds(actor, Permission.RECORD_READ)
    answers = {act.number: _written(done) for act, done in zip(acts, carry_out(actor, acts), strict=True)}
    answers |= {one.number: _read(actor, one) for one in asked if isinstance(one, Reading)}
    return [answers[one.number] for one in asked]


def _read(actor: Actor, reading: Reading) -> bytes:
    """What a GET finds: a resource, or the page of a search."""
    if reading.fhir_id:
        stored = service.read(actor, reading.type, reading.fhir_id)
        about = {"response": {"status": "200", "etag": f'W/"{stored.version}"'}}
        return entry_of(about, (stored.body or "").encode())
    query = parse_qsl(reading.query, keep_blank_values=True, max_num_fields=100)
    return entry_of({"response": {"status": "200"}}, found_bundle(reading.type, query))


def _written(done: Done) -> bytes:
    response: Json = {"status": str(done.status)}
    if (stored := done.stored) is None:
        return msgspec.json.encode({"response": response})
    response["etag"] = f'W/"{stored.version}"'
    if stored.deleted:
        return msgspec.json.encode({"response": response})
    place = address_of(stored)
    response["location"] = f"{place}/_history/{stored.version}"
    response["lastModified"] = stored.updated_at.isoformat(timespec="milliseconds")
    return msgspec.json.encode({"fullUrl": place, "response": response})
