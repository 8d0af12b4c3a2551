"""Free times as FHIR: worked out when they are asked for, kept nowhere; a Slot's id says which one it is.

Source: https://hl7.org/fhir/R4/slot.html, https://hl7.org/fhir/R4/schedule.html.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from medical.people.models import Clinician
from medical.platform import clock
from medical.scheduling.models import AppointmentType
from medical.scheduling.slots import Slot

Json = dict[str, Any]
TYPES = "urn:medical-backend:appointment-type"
"""The system of our kinds of visits; the code is the id."""
SIZE = 38
"""Bytes of what an id says: 16 of the clinician, 16 of the kind of visit, 4 of the minute, 2 of minutes."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Key(NamedTuple):
    """Which free time it is."""

    clinician_id: UUID
    appointment_type_id: UUID
    start: datetime
    minutes: int


def id_of(key: Key) -> str:
    """The id of a Slot, within FHIR's 64 characters."""
    minute = int(key.start.timestamp()) // 60
    packed = key.clinician_id.bytes + key.appointment_type_id.bytes + minute.to_bytes(4) + key.minutes.to_bytes(2)
    number, made = int.from_bytes(packed), ""
    while number:
        number, digit = divmod(number, 36)
        made = DIGITS[digit] + made
    return made


def key_of(slot_id: str) -> Key | None:
    """What an id says; None for what is the id of no Slot."""
    try:
        packed = int(slot_id, 36).to_bytes(SIZE)
        start = datetime.fromtimestamp(int.from_bytes(packed[32:36]) * 60, UTC)
    except (ValueError, OverflowError):
        return None
    return Key(UUID(bytes=packed[:16]), UUID(bytes=packed[16:32]), start, int.from_bytes(packed[36:]))


def key_of_slot(slot: Slot, kind: AppointmentType) -> Key:
    """What the id of a free time says."""
    return Key(slot.clinician_id, kind.id, slot.start, (slot.end - slot.start) // timedelta(minutes=1))


def slot_document(key: Key, kind: AppointmentType, status: str) -> Json:
    """A free time, or one that is so no more, as a Slot."""
    return {
        "resourceType": "Slot",
        "id": id_of(key),
        "serviceType": [service_type(kind)],
        "schedule": {"reference": f"Schedule/{key.clinician_id}"},
        "status": status,
        "start": instant(key.start),
        "end": instant(key.start + timedelta(minutes=key.minutes)),
    }


def schedule_document(clinician: Clinician, kinds: list[AppointmentType]) -> Json:
    """What can be booked with a clinician, and how far ahead."""
    now = clock.now()
    horizon = max((kind.horizon_days for kind in kinds), default=0)
    actors = [{"reference": f"Practitioner/{clinician.id}"}]
    actors += [{"reference": f"Location/{clinician.location_id}"}] if clinician.location_id else []
    made: Json = {
        "resourceType": "Schedule",
        "id": str(clinician.id),
        "active": True,
        "serviceType": [service_type(kind) for kind in kinds],
        "specialty": [{"text": clinician.specialty}],
        "actor": actors,
        "planningHorizon": {"start": instant(now), "end": instant(now + timedelta(days=horizon))},
    }
    return {name: value for name, value in made.items() if value != []}


def service_type(kind: AppointmentType) -> Json:
    """A kind of visit as a CodeableConcept."""
    return {"coding": [{"system": TYPES, "code": str(kind.id), "display": kind.name}], "text": kind.name}


def instant(moment: datetime) -> str:
    """A moment in UTC, as FHIR writes it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
