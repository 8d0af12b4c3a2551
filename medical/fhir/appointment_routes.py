"""Appointments over HTTP, as FHIR; booking goes through the same verbs as in the JSON API.

Source: https://hl7.org/fhir/R4/appointment.html.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, request
from sqlalchemy.orm.attributes import flag_modified

from medical.audit.events import Action
from medical.fhir import appointments
from medical.fhir.appointments import STATUSES, documents_of
from medical.fhir.joined import (
    BASE,
    Json,
    bundle_of,
    cursor_of,
    entry_of,
    found_entry,
    link_of,
    made_entry,
    read_cursor,
)
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, READING, Query, ensure_json, expected_version, form_of, operations_of, received
from medical.fhir.slots import TYPES
from medical.platform.authz import Actor, current_actor, ensure_holds, holds
from medical.platform.errors import Forbidden, NotFound, Stale, UnsupportedMediaType
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import conditions, scopes, search
from medical.records.codec import encode
from medical.records.errors import InvalidResource, PatchRefused, UnknownParameter, UnreadableResource
from medical.records.patching import patched
from medical.records.permissions import Permission as RecordPermission
from medical.records.validation import Issue
from medical.records.values import bounds_asked, span_asked
from medical.scheduling import booking, life
from medical.scheduling import service as diary
from medical.scheduling.errors import IN_ORDER, CutoffPassed, InvalidTransition, NotToday, NotYourDiary, TooEarly
from medical.scheduling.models import Appointment, Status
from medical.scheduling.permissions import Permission

bp = Blueprint("fhir-appointments", __name__, url_prefix=f"{BASE}/Appointment")

BOOKING = [*OF_TYPE, *READING, InvalidResource, NotYourDiary, *IN_ORDER]
CHANGING = [*BOOKING, Stale, InvalidTransition, CutoffPassed, TooEarly, NotToday]
OF_ACTOR = {"Patient": "patient_id", "Practitioner": "clinician_id", "Location": "location_id"}
INCLUDED = {"patient": "Patient", "practitioner": "Practitioner", "location": "Location"}
RESULT = {"_count", "_include", "_format", "_pretty", "_cursor"}
FHIR_STATUSES = {one: [status for status, name in STATUSES.items() if name == one] for one in STATUSES.values()}


@endpoint(
    bp.get(""),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.APPOINTMENT_SEARCHED,
    smart="Appointment.s",
)
def find(query: Query) -> Answer:
    """Search the appointments that the caller may see, ordered by start.

    By `_id`, `patient`, `practitioner`, `location`, `actor`, `date`, `status` and `service-type`; `_include` of
    patient, practitioner and location for those who may read records.
    """
    return _found(query)


@endpoint(
    bp.post("/_search"),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnsupportedMediaType, UnknownParameter],
    audit=Action.APPOINTMENT_SEARCHED,
    smart="Appointment.s",
)
def find_by_form(query: Query, body: bytes) -> Answer:
    """The same with the parameters in a form."""
    return _found([*query, *form_of(body)])


@endpoint(
    bp.post(""),
    permission=Permission.APPOINTMENT_BOOK,
    raw=True,
    returns=(201, Json),
    media_type=FHIR,
    errors=BOOKING,
    audit=Action.APPOINTMENT_BOOKED,
    smart="Appointment.c",
)
def book(query: Query, body: bytes) -> Answer:
    """Book a free time: with the Practitioner who is named, or the fairest free one of the specialty.

    The kind of visit is named by our code or by its name in `serviceType`, or comes of a Slot. What is taken is refused
    with 409 by the same rules, and in the same place, as `POST /api/v1/appointments`.
    """
    ensure_json(query)
    return answer_of(booked(current_actor(), received(body, "Appointment")), 201)


@endpoint(
    bp.get("/<uuid:appointment_id>"),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=OF_TYPE,
    audit=Action.APPOINTMENT_READ,
    smart="Appointment.r",
)
def read(appointment_id: UUID, query: Query) -> Answer:
    """Read an appointment."""
    ensure_json(query)
    return answer_of(reached(current_actor(), appointment_id, "r"), 200)


@endpoint(
    bp.put("/<uuid:appointment_id>"),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=CHANGING,
    audit=Action.APPOINTMENT_CHANGED,
    smart="Appointment.u",
)
def update(appointment_id: UUID, query: Query, body: bytes) -> Answer:
    """Move an appointment, let it have another status, or say more of it; `If-Match` names the version it replaces.

    Each change takes the permission that the JSON API asks for it.
    """
    ensure_json(query)
    document = received(body, "Appointment")
    if document.get("id") != str(appointment_id):
        raise UnreadableResource("The resource must have the id that the path says.")
    return answer_of(_changed(current_actor(), appointment_id, document), 200)


@endpoint(
    bp.patch("/<uuid:appointment_id>"),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*CHANGING, PatchRefused],
    audit=Action.APPOINTMENT_CHANGED,
    smart="Appointment.u",
)
def patch(appointment_id: UUID, query: Query, body: bytes) -> Answer:
    """The same by a JSON Patch."""
    ensure_json(query)
    operations, actor = operations_of(body), current_actor()
    [before] = documents_of([reached(actor, appointment_id, "u")])
    return answer_of(_changed(actor, appointment_id, patched(before, operations)), 200)


@endpoint(
    bp.get("/<uuid:appointment_id>/_history"),
    permission=Permission.APPOINTMENT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=OF_TYPE,
    audit=Action.APPOINTMENT_HISTORY_READ,
    smart="Appointment.r",
)
def history(appointment_id: UUID, query: Query) -> Answer:
    """Read what an appointment was, newest first: its status, time, clinician and why."""
    ensure_json(query)
    actor = current_actor()
    [now] = documents_of([reached(actor, appointment_id, "r")])
    events = diary.history(actor, appointment_id, search.MOST, None)
    versions = [appointments.version_of(now, event) for event in reversed(events)]
    entries = [_version_entry(one) for one in versions]
    return Answer(200, {}, bundle_of({"type": "history", "total": len(entries)}, entries))


def booked(actor: Actor, document: Json, hold_id: UUID | None = None) -> Appointment:
    """The appointment that a document asks for, with what it says besides. Raises ``InvalidResource`` or what
    ``book`` raises."""
    wanted = appointments.wanted_of(document)
    if document["status"] not in appointments.NEW:
        diagnostics = f"is {' or '.join(appointments.NEW)} of what is to be booked"
        raise InvalidResource([Issue("business-rule", "Appointment.status", diagnostics)])
    if scopes.only_patient(actor, "c", "Appointment") not in (None, wanted.patient_id):
        raise Forbidden("The app may book for the patient in context alone.")
    first = next(iter(wanted.clinician_ids), None)
    appointment = booking.book(
        actor,
        patient_id=wanted.patient_id,
        appointment_type_id=wanted.appointment_type_id,
        start=wanted.start,
        reason=wanted.reason,
        clinician_id=first,
        specialty=None if first else wanted.specialty,
        location_id=wanted.location_id,
        sensitive=wanted.sensitive,
        duration_minutes=wanted.minutes,
        with_clinician_ids=wanted.clinician_ids[1:],
        hold_id=hold_id,
    )
    appointments.keep(appointment.id, document)
    return appointment


def answer_of(appointment: Appointment, status: int) -> Answer:
    """An appointment that was read or written."""
    [document] = documents_of([appointment])
    place = f"{own_address()}{BASE}/Appointment/{appointment.id}"
    headers = {"ETag": f'W/"{appointment.version}"'}
    headers |= {"Location": f"{place}/_history/{appointment.version}"} if status == 201 else {}
    return Answer(status, headers, encode(document))


def _changed(actor: Actor, appointment_id: UUID, document: Json) -> Appointment:
    """The appointment as the document wants it: moved, or with another status, and with what it says besides."""
    row = reached(actor, appointment_id, "u")
    [before] = documents_of([row])
    version = expected_version()
    if version not in (None, row.version):
        raise Stale
    wanted = appointments.wanted_of(document)
    cause = appointments.cause_of(document)
    if wanted.patient_id != row.patient_id or wanted.appointment_type_id != row.appointment_type_id:
        diagnostics = "stays with its patient and its kind of visit; cancel it, and book another"
        raise InvalidResource([Issue("business-rule", "Appointment", diagnostics)])
    others = [*wanted.clinician_ids[1:]]
    clinician_id = next(iter(wanted.clinician_ids), row.clinician_id)
    elsewhere = wanted.location_id not in (None, row.location_id)
    moved = elsewhere or wanted.start != row.start_at or clinician_id != row.clinician_id
    length = span_asked(document["end"])[0] - wanted.start if "end" in document else row.end_at - row.start_at
    if length != row.end_at - row.start_at or (wanted.sensitive and not row.sensitive):
        diagnostics = "lasts as long as it was booked for, and is sensitive from its booking on or not at all"
        raise InvalidResource([Issue("business-rule", "Appointment", diagnostics)])
    status = document["status"]
    if row.reason_seen and wanted.reason != row.reason:
        ensure_holds(actor, Permission.APPOINTMENT_RESCHEDULE)
        row.reason = wanted.reason
    if moved and status == before["status"]:
        ensure_holds(actor, Permission.APPOINTMENT_RESCHEDULE)
        row = booking.reschedule(
            actor,
            appointment_id,
            version,
            start=wanted.start,
            clinician_id=clinician_id,
            location_id=wanted.location_id,
            reason=cause,
        )
    elif moved or set(others) != set(row.with_clinician_ids or ()):
        diagnostics = "changes either its time or its status at once, and keeps whoever else takes part"
        raise InvalidResource([Issue("business-rule", "Appointment", diagnostics)])
    elif status != before["status"]:
        row = life.become(actor, appointment_id, version, _status(status), cause)
    elif row.reason_seen:
        ensure_holds(actor, Permission.APPOINTMENT_RESCHEDULE)
        flag_modified(row, "reason")  # what is said beside the row is a change of the appointment too
        diary.flush(row)
    if row.reason_seen:
        appointments.keep(appointment_id, document)
    return row


def reached(actor: Actor, appointment_id: UUID, interaction: str) -> Appointment:
    """An appointment, locked where it is to be changed; an app reaches those alone that its scopes say.

    Raises ``NotFound`` or ``Forbidden``.
    """
    only = scopes.only_patient(actor, interaction, "Appointment")
    row = diary.get_appointment(actor, appointment_id, lock=interaction == "u")
    if only not in (None, row.patient_id):
        raise NotFound
    return row


def _status(name: str) -> Status:
    """The status that a word of FHIR's means. Raises ``InvalidResource``."""
    if name not in FHIR_STATUSES:
        raise InvalidResource([Issue("business-rule", "Appointment.status", f"`{name}` is none that it can get")])
    return FHIR_STATUSES[name][0]


def _found(query: Query) -> Answer:
    """A page of appointments, and who and where they are."""
    ensure_json(query)
    actor, given = current_actor(), dict(query)
    size = search.size_of(given.get("_count"))
    filters, ignored = _filters(query)
    if only := scopes.only_patient(actor, "s", "Appointment"):
        _only(filters, "patient_id", only)
    if ignored and "handling=strict" in request.headers.get("Prefer", ""):
        raise UnknownParameter(f"There is no parameter {', '.join(sorted(set(ignored)))[:200]} here.")
    if size and not filters.pop("nothing", False):
        rows = diary.list_appointments(actor, limit=size, after=_after(given.get("_cursor")), **filters)
    else:
        rows = []
    found = rows[:size]
    documents = documents_of(found)
    heeded = [(name, value) for name, value in query if name not in (*ignored, "_cursor")]
    links = [link_of("self", "Appointment", heeded)]
    if len(rows) > size and found:
        cursor = cursor_of([found[-1].start_at.isoformat(), str(found[-1].id)])
        links.append(link_of("next", "Appointment", [*heeded, ("_cursor", cursor)]))
    entries = [made_entry(one) for one in documents]
    entries += [*_included(actor, found, [value for name, value in query if name == "_include"])]
    head: Json = {"type": "searchset", "link": links}
    if len(rows) <= size and "_cursor" not in given and size:
        head["total"] = len(found)
    return Answer(200, {}, bundle_of(head, entries))


def _filters(query: Query) -> tuple[dict[str, Any], list[str]]:
    """What is asked for as the diary takes it, and the parameters that there are not. Raises ``UnknownParameter``."""
    wanted: dict[str, Any] = dict.fromkeys(("start", "until", "clinician_id", "patient_id", "location_id", "status"))
    ignored = []
    for name, value in query:
        if name in RESULT or not value:
            continue
        if name == "date":
            _narrow(wanted, value)
        elif name == "_id":
            _only(wanted, "ids", [*_uuids(value)])
        elif name in INCLUDED or name == "actor":
            kind, fhir_id = _reference(name, value)
            _only(wanted, OF_ACTOR[kind], fhir_id)
        elif name == "patient.identifier":
            there = conditions.match(current_actor(), "Patient", urlencode({"identifier": value}))
            _only(wanted, "patient_id", there.patient_id if there else None)
        elif name == "status":
            wanted["status"] = [one for word in value.split(",") for one in FHIR_STATUSES.get(word, [])] or ["none"]
        elif name == "service-type":
            wanted["appointment_type_ids"] = [*_uuids(value.replace(f"{TYPES}|", ""))]
        else:
            ignored.append(name)
    return wanted, ignored


def _only(wanted: dict[str, Any], name: str, value: Any) -> None:
    """Let only these be found: nothing, where they are not known here, or something else was asked for as well."""
    if not value or wanted.get(name) not in (None, value):
        wanted["nothing"] = True
    wanted[name] = value


def _narrow(wanted: dict[str, Any], value: str) -> None:
    """Let the appointments begin in the span that a date with a prefix means, too."""
    start, end = bounds_asked(value)
    wanted["start"] = max(filter(None, (start, wanted["start"])), default=None)
    wanted["until"] = min(filter(None, (end, wanted["until"])), default=None)


def _reference(name: str, value: str) -> tuple[str, UUID | None]:
    """Type and id of who or what takes part; no id for somebody who is not known here. Raises ``UnknownParameter``."""
    *kinds, fhir_id = value.split("/")[-2:]
    kind = kinds[0] if kinds else INCLUDED.get(name, "")
    if kind not in OF_ACTOR or INCLUDED.get(name, kind) != kind:
        raise UnknownParameter(f"`{name}` names a {' or '.join(INCLUDED.values())} as Type/id, and one alone.")
    return kind, next(iter(_uuids(fhir_id)), None)


def _uuids(value: str) -> Iterator[UUID]:
    """The ids among those that commas separate."""
    for one in value.split(","):
        try:
            yield UUID(one)
        except ValueError:
            continue  # the id of nothing that is here


def _after(cursor: str | None) -> tuple[datetime, UUID] | None:
    key = read_cursor(cursor)
    try:
        return (datetime.fromisoformat(key[0] or ""), UUID(key[1])) if key else None
    except (ValueError, IndexError, TypeError):
        raise UnknownParameter("There is no such page.") from None


def _included(actor: Actor, found: Sequence[Appointment], rules: Sequence[str]) -> Iterator[bytes]:
    """Who and where the appointments are, as far as it is asked for, and as the caller may see them."""
    asked = {rule.split(":")[1] if ":" in rule else "" for rule in rules if rule.startswith("Appointment")}
    every = bool(asked & {"actor", "*"})
    names: set[tuple[str, str]] = set()
    for one in found:
        if every or "patient" in asked:
            names.add(("Patient", str(one.patient_id)))
        if every or "practitioner" in asked:
            names |= {("Practitioner", str(who)) for who in (one.clinician_id, *(one.with_clinician_ids or ()))}
        if (every or "location" in asked) and one.location_id:
            names.add(("Location", str(one.location_id)))
    if names and holds(actor, RecordPermission.RECORD_READ):
        for stored in search.named(actor, names):
            yield found_entry(stored, "include")


def _version_entry(document: Json) -> bytes:
    version = document["meta"]["versionId"]
    place = f"{own_address()}{BASE}/Appointment/{document['id']}"
    first = version == "1"
    about = {
        "fullUrl": place,
        "request": {"method": "POST" if first else "PUT", "url": f"Appointment{'' if first else '/' + document['id']}"},
        "response": {"status": "201" if first else "200", "etag": f'W/"{version}"'},
    }
    return entry_of(about, encode(document))
