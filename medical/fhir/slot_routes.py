"""Free times and schedules over HTTP, as FHIR. Source: https://hl7.org/fhir/R4/slot.html."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from flask import Blueprint, request

from medical.fhir.joined import BASE, Json, bundle_of, cursor_of, entry_of, link_of, made_entry, read_cursor
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, Query, ensure_json, form_of
from medical.fhir.slots import TYPES, Key, key_of, key_of_slot, schedule_document, slot_document
from medical.people import service as people
from medical.people.models import Clinician
from medical.people.permissions import Permission as PeoplePermission
from medical.platform import clock
from medical.platform.authz import Actor, current_actor
from medical.platform.errors import NotFound, UnsupportedMediaType
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.records import search
from medical.records.codec import encode
from medical.records.errors import UnknownParameter
from medical.records.values import bounds_asked
from medical.scheduling import service as diary
from medical.scheduling.models import AppointmentType
from medical.scheduling.permissions import Permission

bp = Blueprint("fhir-slots", __name__, url_prefix=BASE)

USUAL = timedelta(days=14)
"""How far ahead is looked where nothing is said."""
MOST_KINDS = 10
"""So many kinds of visits are searched at once."""
RESULT = ("_count", "_format", "_pretty", "_cursor", "_include")


class Search(NamedTuple):
    """Which free times are looked for."""

    start: datetime
    until: datetime
    clinician_ids: list[UUID] | None
    location_id: UUID | None
    specialty: str | None
    kinds: list[AppointmentType]
    size: int
    after: tuple[datetime, UUID, UUID] | None


@endpoint(
    bp.get("/Slot"),
    permission=Permission.SLOT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    smart="Slot.s",
)
def find(query: Query) -> Answer:
    """Find free times, ordered by start: worked out now, for the next 14 days unless `start` says otherwise.

    By `schedule`, `schedule.actor`, `start`, `status`, `service-type` and `specialty`. `_include=Slot:schedule`.
    """
    ensure_json(query)
    return _found(query)


@endpoint(
    bp.post("/Slot/_search"),
    permission=Permission.SLOT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnsupportedMediaType, UnknownParameter],
    smart="Slot.s",
)
def find_by_form(query: Query, body: bytes) -> Answer:
    """The same with the parameters in a form."""
    ensure_json(query)
    return _found([*query, *form_of(body)])


@endpoint(
    bp.get("/Slot/<fhir_id:slot_id>"),
    permission=Permission.SLOT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=OF_TYPE,
    smart="Slot.r",
)
def read(slot_id: str, query: Query) -> Answer:
    """Read whether a time that was free still is."""
    ensure_json(query)
    key, kinds = key_of(slot_id), diary.types_by_id()
    if key is None or key.appointment_type_id not in kinds:
        raise NotFound
    people.get_clinician(key.clinician_id)
    kind = kinds[key.appointment_type_id]
    return Answer(200, {}, encode(slot_document(key, kind, "free" if is_free(current_actor(), key, kind) else "busy")))


@endpoint(
    bp.get("/Schedule"),
    permission=PeoplePermission.CLINICIAN_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    smart="Schedule.s",
)
def find_schedules(query: Query) -> Answer:
    """Find the schedules of clinicians, each of whom has one: by `_id`, `actor`, `specialty`; ordered by name."""
    ensure_json(query)
    given = dict(query)
    size = max(1, search.size_of(given.get("_count")))
    after = read_cursor(given.get("_cursor"))
    try:
        key = (after[0] or "", after[1] or "", UUID(after[2])) if after else None
    except (ValueError, IndexError, TypeError):
        raise UnknownParameter("There is no such page.") from None
    only, location_id = _actors([(name, value) for name, value in query if name in ("actor", "_id")])
    rows: Sequence[Clinician] = people.list_clinicians(
        specialty=given.get("specialty"), location_id=location_id, q=None, limit=size, after=key, ids=only
    )
    found, kinds = rows[:size], [*diary.types_by_id().values()]
    heeded = [(name, value) for name, value in query if name in (*RESULT, "actor", "_id", "specialty")]
    heeded = [(name, value) for name, value in heeded if name != "_cursor"]
    links = [link_of("self", "Schedule", heeded)]
    if len(rows) > size:
        last = found[-1]
        cursor = cursor_of([last.user.family_name, last.user.given_name, str(last.id)])
        links.append(link_of("next", "Schedule", [*heeded, ("_cursor", cursor)]))
    head = {"type": "searchset", "link": links} | ({} if len(rows) > size or after else {"total": len(found)})
    return Answer(200, {}, bundle_of(head, [made_entry(schedule_document(one, kinds)) for one in found]))


@endpoint(
    bp.get("/Schedule/<uuid:clinician_id>"),
    permission=PeoplePermission.CLINICIAN_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=OF_TYPE,
    smart="Schedule.r",
)
def read_schedule(clinician_id: UUID, query: Query) -> Answer:
    """Read the schedule of a clinician."""
    ensure_json(query)
    kinds = [*diary.types_by_id().values()]
    return Answer(200, {}, encode(schedule_document(people.get_clinician(clinician_id), kinds)))


def is_free(actor: Actor, key: Key, kind: AppointmentType) -> bool:
    """Whether the caller could book this very time."""
    found = diary.search_slots(
        actor,
        appointment_type_id=kind.id,
        start=key.start,
        until=key.start + timedelta(minutes=1),
        clinician_ids=[key.clinician_id],
        specialty=None,
        location_id=None,
        limit=1,
        after=None,
        duration_minutes=None if key.minutes == kind.duration_minutes else key.minutes,
    )
    return bool(found)


def free_times(actor: Actor, wanted: Search) -> tuple[list[tuple[Key, AppointmentType]], bool]:
    """A page of free times of all the kinds, by start, clinician and kind; and whether more follow."""
    found: list[tuple[Key, AppointmentType]] = []
    for kind in wanted.kinds:
        rows = diary.search_slots(
            actor,
            appointment_type_id=kind.id,
            start=wanted.start,
            until=wanted.until,
            clinician_ids=wanted.clinician_ids,
            specialty=wanted.specialty,
            location_id=wanted.location_id,
            limit=wanted.size,
            after=_after_of(kind, wanted.after),
        )
        found += [(key_of_slot(one, kind), kind) for one in rows]
    found.sort(key=lambda one: (one[0].start, one[0].clinician_id, one[0].appointment_type_id))
    return found[: wanted.size], len(found) > wanted.size


def _after_of(kind: AppointmentType, after: tuple[datetime, UUID, UUID] | None) -> tuple[datetime, UUID] | None:
    """Where the page begins among the times of this kind: those of later kinds begin with the last time itself."""
    if after is None:
        return None
    start, clinician_id, kind_id = after
    return (start, clinician_id if kind.id <= kind_id else UUID(int=max(clinician_id.int - 1, 0)))


def asked(query: Query) -> tuple[Search, list[str]]:
    """Which free times the parameters ask for, and the parameters that there are not. Raises ``UnknownParameter``."""
    given = dict(query)
    start, until = clock.now(), None
    for name, value in query:
        if name == "start":
            start, until = _narrowed(start, until, value)
    clinician_ids, location_id = _actors(
        [(name, value) for name, value in query if name in ("schedule", *OF_SCHEDULE)],
    )
    known = ("start", "status", "service-type", "specialty", "schedule", *OF_SCHEDULE, *RESULT)
    wanted = Search(
        start=start,
        until=until or start + USUAL,
        clinician_ids=clinician_ids,
        location_id=location_id,
        specialty=given.get("specialty"),
        kinds=_kinds(given.get("service-type")),
        size=max(1, search.size_of(given.get("_count"))),
        after=_read_after(given.get("_cursor")),
    )
    return wanted, [name for name, _ in query if name not in known]


OF_SCHEDULE = ("schedule.actor", "schedule:Schedule.actor")


def _found(query: Query) -> Answer:
    wanted, ignored = asked(query)
    if ignored and "handling=strict" in request.headers.get("Prefer", ""):
        raise UnknownParameter(f"There is no parameter {', '.join(sorted(set(ignored)))[:200]} here.")
    statuses = {one for name, value in query if name == "status" for one in value.split(",")}
    nothing = (statuses and "free" not in statuses) or wanted.clinician_ids == []
    found, more = ([], False) if nothing else free_times(current_actor(), wanted)
    heeded = [(name, value) for name, value in query if name not in (*ignored, "_cursor")]
    links = [link_of("self", "Slot", heeded)]
    if more:
        last = found[-1][0]
        cursor = cursor_of([last.start.isoformat(), str(last.clinician_id), str(last.appointment_type_id)])
        links.append(link_of("next", "Slot", [*heeded, ("_cursor", cursor)]))
    entries = [made_entry(slot_document(key, kind, "free")) for key, kind in found]
    if ("_include", "Slot:schedule") in query:
        entries += _schedules({key.clinician_id for key, _ in found})
    head: Json = {"type": "searchset", "link": links}
    if not more and wanted.after is None:
        head["total"] = len(found)
    return Answer(200, {}, bundle_of(head, entries))


def _schedules(clinician_ids: set[UUID]) -> Iterator[bytes]:
    kinds = [*diary.types_by_id().values()]
    rows = people.list_clinicians(
        specialty=None, location_id=None, q=None, limit=search.MOST, after=None, ids=[*clinician_ids]
    )
    for one in rows:
        place = f"{own_address()}{BASE}/Schedule/{one.id}"
        yield entry_of({"fullUrl": place, "search": {"mode": "include"}}, encode(schedule_document(one, kinds)))


def _narrowed(start: datetime, until: datetime | None, value: str) -> tuple[datetime, datetime | None]:
    """The span, less what a date with a prefix leaves out."""
    after, before = bounds_asked(value)
    start = max(start, after) if after else start
    return start, min(filter(None, (until, before)), default=None)


def _actors(pairs: Sequence[tuple[str, str]]) -> tuple[list[UUID] | None, UUID | None]:
    """Whose schedules, and where; None: everybody's. Raises ``UnknownParameter``."""
    clinicians: list[UUID] | None = None
    location_id = None
    for name, value in pairs:
        some: list[UUID] = []
        for one in value.split(","):
            *kinds, fhir_id = one.split("/")[-2:]
            kind = kinds[0] if kinds else "Schedule" if name in ("schedule", "_id") else "Practitioner"
            try:
                if kind == "Location":
                    location_id = UUID(fhir_id)
                elif kind in ("Practitioner", "PractitionerRole", "Schedule"):
                    some.append(UUID(fhir_id))
            except ValueError:
                continue  # the id of nothing that is here
        if some or "Location/" not in value:
            clinicians = some if clinicians is None else [one for one in clinicians if one in some]
    return clinicians, location_id


def _kinds(value: str | None) -> list[AppointmentType]:
    """The kinds of visits that are asked for, by our code or by name. Raises ``UnknownParameter`` for too many."""
    kinds = [*diary.types_by_id().values()]
    if value:
        codes = {one.removeprefix(f"{TYPES}|").casefold() for one in value.split(",")}
        return [one for one in kinds if str(one.id) in codes or one.name.casefold() in codes]
    if len(kinds) > MOST_KINDS:
        raise UnknownParameter(f"There are more than {MOST_KINDS} kinds of visits: name some by `service-type`.")
    return kinds


def _read_after(cursor: str | None) -> tuple[datetime, UUID, UUID] | None:
    key = read_cursor(cursor)
    try:
        return (datetime.fromisoformat(key[0] or ""), UUID(key[1]), UUID(key[2])) if key else None
    except (ValueError, IndexError, TypeError):
        raise UnknownParameter("There is no such page.") from None
