"""Finding, holding and booking a time in three steps. Source: IHE ITI Scheduling 1.0.1, ITI-115 to 117."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.fhir.appointment_routes import BOOKING, booked, reached
from medical.fhir.appointments import cause_of, documents_of
from medical.fhir.joined import BASE, Json, bundle_of, cursor_of, link_of, made_entry
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, READING, Query, ensure_json, received
from medical.fhir.slot_routes import asked, free_times
from medical.fhir.slots import Key, key_of, slot_document
from medical.platform.authz import Actor, current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.idempotency import Answer
from medical.records.errors import UnknownParameter
from medical.scheduling import holds, life
from medical.scheduling import service as diary
from medical.scheduling.errors import NoHoldInGroups, NotBookable, NotYourDiary, SlotTaken, TooManyHolds
from medical.scheduling.models import AppointmentType, Hold, Status
from medical.scheduling.permissions import Permission

bp = Blueprint("fhir-booking", __name__, url_prefix=f"{BASE}/Appointment")

NAMES = {
    "start": "start",
    "end": "start",
    "specialty": "specialty",
    "visit-type": "service-type",
    "service-type": "service-type",
    "practitioner": "schedule.actor",
    "location-reference": "schedule.actor",
    "_count": "_count",
    "_cursor": "_cursor",
}
"""Parameters of `$find`, and what searches of Slots call them."""
PATIENT = ("patient-reference", "patient-id")
APPOINTMENT = ("appointment-reference", "appt-id")


@endpoint(
    bp.get("/$find"),
    permission=Permission.SLOT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    smart="Slot.s",
)
def find(query: Query) -> Answer:
    """Propose appointments between `start` and `end`, in the order of their times: free now, and held by nobody.

    By `specialty`, `visit-type`, `practitioner` and `location-reference`; `patient-reference` is who comes.
    """
    ensure_json(query)
    return _proposed(query)


@endpoint(
    bp.post("/$find"),
    permission=Permission.SLOT_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, *READING, UnknownParameter],
    smart="Slot.s",
)
def find_by_parameters(query: Query, body: bytes) -> Answer:
    """The same with the parameters as Parameters."""
    ensure_json(query)
    given = received(body, "Parameters")
    return _proposed([*query, *((name, value) for name, value in _parameters(given) if isinstance(value, str))])


@endpoint(
    bp.post("/$hold"),
    permission=Permission.APPOINTMENT_BOOK,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, *READING, NotYourDiary, NotBookable, SlotTaken, NoHoldInGroups, TooManyHolds],
    audit=Action.HOLD_PLACED,
    smart="Appointment.c",
)
def hold(query: Query, body: bytes) -> Answer:
    """Hold a proposed appointment for the caller until `Expires`: nobody else can book its time."""
    ensure_json(query)
    given, actor = dict(_parameters(received(body, "Parameters"))), current_actor()
    key = key_of(_named(given))
    kind = diary.types_by_id().get(key.appointment_type_id) if key else None
    if key is None or kind is None:
        raise NotFound
    minutes = None if key.minutes == kind.duration_minutes else key.minutes
    placed = holds.place(
        actor,
        appointment_type_id=kind.id,
        clinician_id=key.clinician_id,
        start=key.start,
        duration_minutes=minutes,
    )
    document = _proposal(key, kind, _patient(given)) | {"id": str(placed.id), "status": "pending"}
    headers = {"Expires": format_datetime(placed.expires_at, usegmt=True)}
    return Answer(200, headers, bundle_of({"type": "searchset", "total": 1}, [made_entry(document)]))


@endpoint(
    bp.post("/$book"),
    permission=Permission.APPOINTMENT_BOOK,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=BOOKING,
    audit=Action.APPOINTMENT_BOOKED,
    smart="Appointment.cu",
)
def book(query: Query, body: bytes) -> Answer:
    """Book what was proposed or is held, for a patient: by `appointment-reference`, or a whole `appointment-resource`.

    `patient-reference` is who comes, if the appointment does not say so; `comment` goes with it. The resource of an
    appointment that is booked and says `cancelled` cancels it.
    """
    ensure_json(query)
    given, actor = dict(_parameters(received(body, "Parameters"))), current_actor()
    resource = given.get("appointment-resource") or given.get("appt-resource")
    if isinstance(resource, dict) and resource.get("status") == "cancelled":
        if actor.app:
            reached(actor, _uuid(resource.get("id")), "u")
        row = life.become(actor, _uuid(resource.get("id")), None, Status.CANCELLED, cause_of(resource))
    else:
        document, hold_id = _to_book(actor, given, resource)
        row = booked(actor, document, hold_id)
    return Answer(200, {}, bundle_of({"type": "searchset", "total": 1}, [made_entry(*documents_of([row]))]))


def _proposed(query: Query) -> Answer:
    """A page of proposed appointments."""
    given = dict(query)
    if not given.get("start") or not given.get("end"):
        raise UnknownParameter("`start` and `end` are required.")
    translated = [(NAMES[name], _bounded(name, value)) for name, value in query if name in NAMES]
    wanted, _ = asked(translated)
    found, more = free_times(current_actor(), wanted)
    heeded = [(name, value) for name, value in query if name in NAMES or name in PATIENT]
    links = [link_of("self", "Appointment/$find", heeded)]
    if more:
        last = found[-1][0]
        cursor = cursor_of([last.start.isoformat(), str(last.clinician_id), str(last.appointment_type_id)])
        rest = [(name, value) for name, value in heeded if name != "_cursor"]
        links.append(link_of("next", "Appointment/$find", [*rest, ("_cursor", cursor)]))
    head: Json = {"type": "searchset", "link": links} | ({} if more else {"total": len(found)})
    return Answer(200, {}, bundle_of(head, [made_entry(_proposal(key, kind, _patient(given))) for key, kind in found]))


def _bounded(name: str, value: str) -> str:
    return {"start": "ge", "end": "lt"}.get(name, "") + value


def _proposal(key: Key, kind: AppointmentType, patient: str | None) -> Json:
    """A free time as an Appointment that is proposed; its id is that of the Slot."""
    slot = slot_document(key, kind, "free")
    who = [f"Practitioner/{key.clinician_id}", *([patient] if patient else [])]
    return {
        "resourceType": "Appointment",
        "id": slot["id"],
        "status": "proposed",
        "serviceType": slot["serviceType"],
        "start": slot["start"],
        "end": slot["end"],
        "minutesDuration": key.minutes,
        "slot": [{"reference": f"Slot/{slot['id']}"}],
        "participant": [{"actor": {"reference": one}, "status": "needs-action"} for one in who],
    }


def _to_book(actor: Actor, given: dict[str, Any], resource: Any) -> tuple[Json, UUID | None]:
    """The Appointment that is to be booked, and the caller's hold that it comes from."""
    named = str(resource.get("id", "")) if isinstance(resource, dict) else _named(given)
    held = holds.find(actor, _uuid(named)) if "-" in named else None
    kinds = diary.types_by_id()
    if isinstance(resource, dict):
        document = resource
    else:
        key = _key_of_hold(held) if held else key_of(named)
        if key is None or key.appointment_type_id not in kinds:
            raise NotFound
        document = _proposal(key, kinds[key.appointment_type_id], None)
    patient = _patient(given)
    if patient and not any("Patient/" in str(one.get("actor")) for one in document.get("participant", ())):
        comes = {"actor": {"reference": patient}, "status": "accepted"}
        document = document | {"participant": [*document.get("participant", []), comes]}
    if isinstance(comment := given.get("comment"), str):
        document = document | {"comment": comment}
    return document, held.id if held else None


def _key_of_hold(held: Hold) -> Key:
    minutes = (held.end_at - held.start_at) // timedelta(minutes=1)
    return Key(held.clinician_id, held.appointment_type_id, held.start_at, minutes)


def _patient(given: Mapping[str, Any]) -> str | None:
    """Who comes: by reference, or as a resource with an id of ours."""
    text = next((given[name] for name in PATIENT if given.get(name)), None)
    resource = given.get("patient-resource")
    fhir_id = resource.get("id") if isinstance(resource, dict) else str(text or "").rpartition("/")[2]
    return f"Patient/{fhir_id}" if fhir_id else None


def _named(given: Mapping[str, Any]) -> str:
    """The id of the appointment that is named. Raises ``UnknownParameter``."""
    text = next((given[name] for name in APPOINTMENT if given.get(name)), None)
    if not isinstance(text, str):
        raise UnknownParameter("`appointment-reference` is required.")
    return text.rpartition("/")[2]


def _uuid(text: Any) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise NotFound from None


def _parameters(document: Json) -> Iterator[tuple[str, Any]]:
    """Names and values of Parameters: a reference as its text, a resource as it is."""
    listed = document.get("parameter")
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict):
            continue
        value = one.get("resource") or next((one[key] for key in one if key.startswith("value")), None)
        if isinstance(value, dict) and "reference" in value:
            value = value["reference"]
        yield str(one.get("name")), value
