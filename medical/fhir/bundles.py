"""Batches and transactions: many requests in one. Source: https://hl7.org/fhir/R4/http.html#transaction."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from flask import Blueprint
from msgspec import Struct

from medical.audit import service as audit
from medical.audit.events import Action
from medical.fhir.joined import BASE, Json, address_of, bundle_of, entry_of
from medical.fhir.outcome import FHIR, refusal_document
from medical.fhir.routes import WRITING, Query, ensure_json, ensure_type, received, version_of
from medical.fhir.search_routes import found_bundle
from medical.fhir.wire import JSON_PATCH, read_json
from medical.platform import authz
from medical.platform.authz import Actor, current_actor
from medical.platform.db import db
from medical.platform.errors import AppError, NotFound, Stale
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.platform.ids import new_id
from medical.records import conditions, service, turns
from medical.records.definitions import resource_types
from medical.records.errors import Gone, PatchRefused, SeveralMatch, UnknownParameter, UnreadableResource
from medical.records.permissions import Permission
from medical.records.service import Draft, Stored

bp = Blueprint("fhir-bundles", __name__, url_prefix=BASE)

MOST_ENTRIES = 5000
NEEDED = {
    "GET": Permission.RECORD_READ,
    "POST": Permission.RECORD_EDIT,
    "PUT": Permission.RECORD_EDIT,
    "PATCH": Permission.RECORD_EDIT,
    "DELETE": Permission.RECORD_DELETE,
}
ORDER = ("DELETE", "POST", "PUT", "PATCH", "GET")
"""In which a transaction carries its entries out, wherever they stand."""
URL = re.compile(r"(?P<type>[A-Z][A-Za-z]*)(?:/(?P<id>[A-Za-z0-9\-.]{1,64}))?(?:\?(?P<query>.*))?")
CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]*)\?(?P<query>.+)")


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


class Entry(NamedTuple):
    """One request of a bundle."""

    number: int
    method: str
    type: str
    fhir_id: str | None
    query: str
    resource: Json | None
    full_url: str | None
    if_none_exist: str | None
    if_match: int | None


@endpoint(
    bp.post("", strict_slashes=False),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*WRITING, PatchRefused, Gone, SeveralMatch, Stale, UnknownParameter],
    audit=Action.RECORDS_WRITTEN,
)
def process(query: Query, body: bytes) -> Answer:
    """Carry out a batch, each entry by itself, or a transaction, all of them or none.

    In a transaction, entries refer to each other by `urn:uuid:` and to what is there by `Type?parameter=value`.
    """
    ensure_json(query)
    bundle = received(body, "Bundle")
    actor = current_actor()
    if bundle.get("type") == "transaction":
        answers = _transaction(actor, [_entry(number, given) for number, given in enumerate(_listed(bundle))])
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


def _entry(number: int, given: Any) -> Entry:
    """A request of a bundle. Raises ``UnreadableResource`` or ``NotHere``, naming the entry."""
    try:
        asked = msgspec.convert(given, Given)
    except msgspec.ValidationError:
        raise UnreadableResource(f"Bundle.entry[{number}] is no request.") from None
    method, request = asked.request.method, asked.request
    url = URL.fullmatch(request.url.removeprefix(f"{own_address()}{BASE}/").lstrip("/"))
    if method not in NEEDED or not url or url["type"] not in resource_types():
        raise UnreadableResource(f"Bundle.entry[{number}] asks for what there is not.")
    ensure_type(url["type"])
    if method in ("POST", "PUT") and (asked.resource or {}).get("resourceType") != url["type"]:
        raise UnreadableResource(f"Bundle.entry[{number}] has no resource of the type that it names.")
    return Entry(
        number=number,
        method=method,
        type=url["type"],
        fhir_id=url["id"],
        query=url["query"] or "",
        resource=asked.resource,
        full_url=asked.fullUrl,
        if_none_exist=request.ifNoneExist,
        if_match=version_of(request.ifMatch) if request.ifMatch else None,
    )


def _batch(actor: Actor, listed: Sequence[Any]) -> list[bytes]:
    """Each entry as if it came alone; what is refused undoes nothing of the others."""
    answers = []
    for number, given in enumerate(listed):
        savepoint = db.session.begin_nested()
        try:
            [answer] = _transaction(actor, [_entry(number, given)])
            savepoint.commit()
        except AppError as refusal:
            savepoint.rollback()
            _, told = refusal_document(refusal, "")
            answer = b'{"response":{"status":"%d","outcome":%s}}' % (refusal.status, told)
        answers.append(answer)
    return answers


def _transaction(actor: Actor, entries: Sequence[Entry]) -> list[bytes]:
    """The answers to the entries, in their order, all of which went through."""
    for one in entries:
        authz.ensure_holds(actor, NEEDED[one.method])
    turns.lock(name for one in entries if one.method != "GET" for name in _names_of(one))
    answers: dict[int, bytes] = {}
    found = {one.number: _existing(actor, one) for one in entries if one.method != "GET"}
    drafts, names = _drafts(entries, found)
    _ensure_once(entries, found)
    links = _Links(actor, names)
    for one in sorted(entries, key=lambda one: ORDER.index(one.method)):
        there = found.get(one.number)
        if one.method == "DELETE":
            answers[one.number] = _deleted(actor, one, there)
        elif one.method == "PUT" and one.resource is not None:
            fhir_id = there.fhir_id if there else one.fhir_id or drafts[one.number]
            document = links.followed(one.resource) | {"id": fhir_id}
            stored, first = service.replace(actor, document, fhir_id, one.if_match)
            answers[one.number] = _written(stored, "201" if first else "200")
        elif one.method == "PATCH":
            answers[one.number] = _patched(actor, one, there)
        elif one.method == "POST" and there:
            answers[one.number] = _written(there, "200")
        elif one.method == "GET":
            answers[one.number] = _read(actor, one)
    made = [one for one in entries if one.method == "POST" and not found[one.number] and one.resource is not None]
    kept = service.create_many(actor, [Draft(links.followed(one.resource or {}), drafts[one.number]) for one in made])
    for one, stored in zip(made, kept, strict=True):
        answers[one.number] = _written(stored, "201")
    for patient_id in {stored.patient_id for stored in kept}:
        audit.touch("Bundle", None, patient_id=patient_id)
    return [answers[one.number] for one in entries]


def _names_of(entry: Entry) -> Iterator[str]:
    """What others might write at the same moment: the resource that is named, or what the condition finds."""
    if entry.fhir_id:
        yield f"{entry.type}/{entry.fhir_id}"
    if condition := entry.if_none_exist if entry.method == "POST" else entry.query:
        yield conditions.turn_of(entry.type, condition)


def _existing(actor: Actor, entry: Entry) -> Stored | None:
    """The resource that a conditional write finds."""
    query = entry.if_none_exist if entry.method == "POST" else None if entry.fhir_id else entry.query
    if entry.method != "POST" and not entry.fhir_id and not query:
        raise UnreadableResource(f"Bundle.entry[{entry.number}] names no resource.")
    return conditions.match(actor, entry.type, query) if query else None


def _drafts(entries: Sequence[Entry], found: Mapping[int, Stored | None]) -> tuple[dict[int, str], dict[str, str]]:
    """The ids of what is to be made, by entry; and what references to entries become."""
    drafts, names = {}, {}
    for one in entries:
        if one.method not in ("POST", "PUT"):
            continue
        there = found.get(one.number)
        drafts[one.number] = there.fhir_id if there else one.fhir_id or str(new_id())
        if one.full_url:
            names[one.full_url] = f"{one.type}/{drafts[one.number]}"
    return drafts, names


def _ensure_once(entries: Sequence[Entry], found: Mapping[int, Stored | None]) -> None:
    """Raise ``UnreadableResource`` where two entries would write one resource."""
    written = [
        (one.type, there.fhir_id if (there := found.get(one.number)) else one.fhir_id)
        for one in entries
        if one.method in ("PUT", "PATCH", "DELETE") and (one.fhir_id or found.get(one.number))
    ]
    if len(set(written)) < len(written):
        raise UnreadableResource("Two entries write one resource.")


class _Links:
    """Follows the references of a transaction's resources."""

    def __init__(self, actor: Actor, names: Mapping[str, str]) -> None:
        self.actor, self.names = actor, names
        self.known: dict[str, str] = {}

    def followed(self, value: Any) -> Any:
        """A copy that refers to what entries became, and to what conditions find."""
        if isinstance(value, dict):
            return {
                key: self._reference(one) if key == "reference" else self.followed(one) for key, one in value.items()
            }
        if isinstance(value, list):
            return [self.followed(one) for one in value]
        return self.names.get(value, value) if isinstance(value, str) and value.startswith("urn:") else value

    def _reference(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self.followed(value)
        if value in self.names:
            return self.names[value]
        if "?" not in value or not (asked := CONDITIONAL.fullmatch(value)) or asked["type"] not in resource_types():
            return value
        if value not in self.known:
            stored = conditions.match(self.actor, asked["type"], asked["query"])
            if stored is None:
                raise SeveralMatch(f"Nothing fits the reference `{asked['type']}?…`.")
            self.known[value] = f"{stored.type}/{stored.fhir_id}"
        return self.known[value]


def _deleted(actor: Actor, entry: Entry, there: Stored | None) -> bytes:
    fhir_id = there.fhir_id if there else entry.fhir_id
    if fhir_id is None:
        return msgspec.json.encode({"response": {"status": "204"}})
    stored = service.delete(actor, entry.type, fhir_id, entry.if_match)
    return msgspec.json.encode({"response": {"status": "204", "etag": f'W/"{stored.version}"'}})


def _patched(actor: Actor, entry: Entry, there: Stored | None) -> bytes:
    """What a JSON Patch makes of a resource; in a Bundle it comes as a Binary."""
    fhir_id = there.fhir_id if there else entry.fhir_id
    if fhir_id is None:
        raise NotFound
    binary = entry.resource or {}
    if binary.get("resourceType") != "Binary" or binary.get("contentType") != JSON_PATCH:
        raise UnreadableResource(f"Bundle.entry[{entry.number}] has no Binary of {JSON_PATCH}.")
    try:
        operations = read_json(base64.b64decode(str(binary.get("data")), validate=True))
    except binascii.Error:
        raise UnreadableResource(f"Bundle.entry[{entry.number}].resource.data is not base64.") from None
    return _written(service.patch(actor, entry.type, fhir_id, operations, entry.if_match), "200")


def _read(actor: Actor, entry: Entry) -> bytes:
    """What a GET finds: a resource, or the page of a search."""
    if entry.fhir_id:
        stored = service.read(actor, entry.type, entry.fhir_id)
        about = {"response": {"status": "200", "etag": f'W/"{stored.version}"'}}
        return entry_of(about, (stored.body or "").encode())
    query = parse_qsl(entry.query, keep_blank_values=True, max_num_fields=100)
    return entry_of({"response": {"status": "200"}}, found_bundle(entry.type, query))


def _written(stored: Stored, status: str) -> bytes:
    place = address_of(stored)
    response = {
        "status": status,
        "location": f"{place}/_history/{stored.version}",
        "etag": f'W/"{stored.version}"',
        "lastModified": stored.updated_at.isoformat(timespec="milliseconds"),
    }
    return msgspec.json.encode({"fullUrl": place, "response": response})
