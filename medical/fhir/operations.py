"""Operations on one patient over HTTP. Source: https://hl7.org/fhir/R4/operations.html."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.fhir.joined import (
    BASE,
    Json,
    address_of,
    bundle_of,
    cursor_of,
    entry_of,
    found_entry,
    link_of,
    read_cursor,
)
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, READING, Query, ensure_json, received
from medical.people import duplicates
from medical.people.duplicates import Candidate, Person
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.idempotency import Answer
from medical.records import patients, search, summary
from medical.records.codec import encode
from medical.records.errors import InvalidResource, UnknownParameter, UnreadableResource
from medical.records.everything import Wanted, everything
from medical.records.permissions import Permission
from medical.records.service import Stored
from medical.records.validation import validate
from medical.records.values import span_asked

bp = Blueprint("fhir-operations", __name__, url_prefix=BASE)

GRADE = "http://hl7.org/fhir/StructureDefinition/match-grade"
AGREES = "urn:medical-backend:match-reasons"


@endpoint(
    bp.get("/Patient/<fhir_id:fhir_id>/$everything"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_READ,
    smart="Patient.r",
)
def show_everything(fhir_id: str, query: Query) -> Answer:
    """Read all of a patient's record that the caller may see, and who and what it speaks of.

    Takes `_type`, `_since`, `start` and `end` (of care), and `_count`, without which a page has 1,000.
    """
    ensure_json(query)
    given = dict(query)
    page = everything(current_actor(), fhir_id, _wanted(given))
    entries = [found_entry(one, "match") for one in page.matches]
    entries += [found_entry(one, "include") for one in page.included]
    place = f"Patient/{fhir_id}/$everything"
    heeded = [(name, value) for name, value in query if name in ("_type", "_since", "start", "end", "_count")]
    links = [link_of("self", place, heeded)]
    if page.more:
        links.append(link_of("next", place, [*heeded, ("_cursor", cursor_of([str(page.more)]))]))
    whole = page.more is None and "_cursor" not in given
    head = {"type": "searchset", "link": links} | ({"total": len(page.matches)} if whole else {})
    return Answer(200, {}, bundle_of(head, entries))


@endpoint(
    bp.get("/Patient/<fhir_id:fhir_id>/$summary"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=OF_TYPE,
    audit=Action.RECORD_READ,
    smart="Patient.r",
)
def show_summary(fhir_id: str, query: Query) -> Answer:
    """Read a patient's record in short, as a document: the International Patient Summary of what the caller may see.

    Problems, allergies, medications, immunizations, procedures, and of results and vital signs the latest of each.
    """
    ensure_json(query)
    composition, stored = summary.summary(current_actor(), fhir_id)
    own = f"urn:uuid:{composition['id']}"
    entries = [entry_of({"fullUrl": own}, encode(composition))]
    entries += [entry_of({"fullUrl": address_of(one)}, (one.body or "").encode()) for one in stored]
    head = {"type": "document", "timestamp": composition["date"]}
    head["identifier"] = {"system": "urn:ietf:rfc:3986", "value": own}
    return Answer(200, {}, bundle_of(head, entries))


@endpoint(
    bp.post("/Patient/$match"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, *READING],
    audit=Action.RECORD_SEARCHED,
    smart="Patient.s",
)
def match(query: Query, body: bytes) -> Answer:
    """Find who is probably the Patient of the Parameters, the likeliest first, each with a score and a grade.

    Takes `resource`, `onlyCertainMatches` and `count` (at most 50). What agrees is told as `search.extension`.
    """
    ensure_json(query)
    given = {str(one.get("name")): one for one in _listed(received(body, "Parameters"))}
    patient = given.get("resource", {}).get("resource")
    if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
        raise UnreadableResource("`resource` is a Patient.")
    if issues := validate(patient):
        raise InvalidResource(issues)
    actor, count = current_actor(), given.get("count", {}).get("valueInteger", 10)
    most = min(count, 50) if isinstance(count, int) and count > 0 else 10
    found = duplicates.candidates(actor, Person(**patients.person_of(patient)), most)
    if given.get("onlyCertainMatches", {}).get("valueBoolean"):
        found = [one for one in found if one.grade == "certain"]
    stored = {one.fhir_id: one for one in search.named(actor, {("Patient", str(one.patient.id)) for one in found})}
    entries = [_matched(one, stored[str(one.patient.id)]) for one in found if str(one.patient.id) in stored]
    return Answer(200, {}, bundle_of({"type": "searchset", "total": len(entries)}, entries))


def _listed(parameters: Json) -> list[Json]:
    listed = parameters.get("parameter")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _matched(candidate: Candidate, stored: Stored) -> bytes:
    grade = {"url": GRADE, "valueCode": candidate.grade}
    why = {"url": AGREES, "valueString": ", ".join(candidate.reasons)}
    said = {"mode": "match", "score": candidate.score, "extension": [grade, why]}
    return entry_of({"fullUrl": address_of(stored), "search": said}, (stored.body or "").encode())


def _wanted(given: dict[str, str]) -> Wanted:
    """How much is asked for. Raises ``UnknownParameter``."""
    return Wanted(
        size=max(1, search.size_of(given["_count"])) if "_count" in given else search.MOST,
        types=[one for one in given.get("_type", "").split(",") if one],
        since=_moment(given, "_since", 0),
        start=_moment(given, "start", 0),
        end=_moment(given, "end", 1),
        after=_after(given.get("_cursor")),
    )


def _moment(given: dict[str, str], name: str, end: int) -> datetime | None:
    """The first moment of a date that was given, or the first after it."""
    return span_asked(given[name])[end] if given.get(name) else None


def _after(cursor: str | None) -> UUID | None:
    key = read_cursor(cursor)
    try:
        return UUID(key[0]) if key else None
    except (TypeError, ValueError, IndexError):
        raise UnknownParameter("There is no such page.") from None
