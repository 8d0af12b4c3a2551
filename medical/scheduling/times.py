"""What the type and the hours say of a time, and which times are free instead."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from medical.platform import clock
from medical.platform.errors import NotFound
from medical.scheduling import claims, limits, slots
from medical.scheduling.claims import Claim
from medical.scheduling.errors import BeyondHorizon, FreeTime, NotBookable, OutsideAvailability, TooSoon
from medical.scheduling.models import Appointment, AppointmentType

OFFERED = 3
"""So many free times a refusal offers."""
LOOKED_THROUGH = 40
"""So many are looked through for them: the patient may be busy, or the day full."""
OFFERED_WITHIN = timedelta(days=14)


def find_place(appointment_type_id: UUID, clinician_id: UUID, location_id: UUID | None, start: datetime) -> Any:
    """Where and until when the time is. Raises ``NotFound`` for a type or clinician that is not there."""
    place = slots.place(
        appointment_type_id=appointment_type_id,
        clinician_id=clinician_id,
        location_id=location_id,
        start=start,
        now=clock.now(),
    )
    if place is None:
        raise NotFound("There is no such appointment type in your organisation.")
    if place.clinician_id is None:
        raise NotFound("There is no such clinician in your organisation.")
    return place


def wanted(place: Any, clinician_id: UUID, patient_id: UUID | None, start: datetime) -> Sequence[Claim]:
    """What is claimed for a visit at this time; without a patient, for a hold."""
    of_clinician = Claim(clinician_id, "clinician", start, place.ends)
    return [of_clinician, Claim(patient_id, "patient", start, place.ends)] if patient_id else [of_clinician]


def against_hours(place: Any, start: datetime) -> list[type[NotBookable]]:
    """What the type and the clinician's hours have against the time."""
    reasons: list[type[NotBookable]] = []
    if start < place.earliest:
        reasons.append(TooSoon)
    if place.beyond_horizon:
        reasons.append(BeyondHorizon)
    if place.time_zone is None:
        reasons.append(OutsideAvailability)
    return reasons


def next_free(
    kind: AppointmentType,
    start: datetime,
    clinician_ids: list[UUID] | None,
    specialty: str | None,
    location_id: UUID | None,
    appointment: Appointment | None,
) -> Sequence[FreeTime]:
    """The next times from ``start`` on at which the same would work, a few at most."""
    begin = max(start, clock.now())
    found = slots.search(
        appointment_type_id=kind.id,
        start=begin,
        until=begin + OFFERED_WITHIN,
        clinician_ids=clinician_ids,
        specialty=specialty,
        location_id=location_id,
        now=clock.now(),
        limit=LOOKED_THROUGH,
        after=None,
    )
    free = [FreeTime(slot.clinician_id, slot.location_id, slot.start, slot.end) for slot in found or ()]
    if appointment and free:
        free = _suitable(kind, free, appointment)
    return free[:OFFERED]


def _suitable(kind: AppointmentType, free: list[FreeTime], appointment: Appointment) -> list[FreeTime]:
    """Those of the times at which the patient is free too, on days that take more of the type."""
    taken = claims.times_of(appointment.patient_id, free[0].start, max(time.end for time in free), appointment.id)
    apart = [time for time in free if all(time.end <= begins or ends <= time.start for begins, ends in taken)]
    full = limits.full_days(kind, [(time.clinician_id, time.start) for time in apart], appointment.id)
    return [time for n, time in enumerate(apart) if n not in full]
