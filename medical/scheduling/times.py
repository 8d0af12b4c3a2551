"""How a time is taken: what the type and the hours say of it, who has it, and which times are free instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from medical.platform import clock
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.scheduling import claims, limits, slots
from medical.scheduling.claims import Claim
from medical.scheduling.errors import (
    BeyondHorizon,
    DeviceTaken,
    FreeTime,
    NotBookable,
    OutsideAvailability,
    RoomTaken,
    TooSoon,
)
from medical.scheduling.models import Appointment, AppointmentType

THINGS = frozenset({RoomTaken, DeviceTaken})
"""Refusals that speak of one room or device of several."""

Take = Callable[[Sequence[Claim]], list[type[NotBookable]]]
"""Claims the time; what stands in the way."""

OFFERED = 3
"""So many free times a refusal offers."""
LOOKED_THROUGH = 40
"""So many are looked through for them: the patient may be busy, or the day full."""
OFFERED_WITHIN = timedelta(days=14)


@dataclass(frozen=True)
class Wish:
    """A time that is asked for: what, when, and if that matters where, how long and who takes part whoever's it is."""

    kind: AppointmentType
    start: datetime
    location_id: UUID | None = None
    minutes: int | None = None
    with_ids: Sequence[UUID] = ()

    @property
    def end(self) -> datetime:
        """When it ends."""
        return self.start + timedelta(minutes=self.minutes or self.kind.duration_minutes)

    def of(self, clinician_id: UUID) -> "Visit":
        """The same, with this clinician."""
        return Visit(self.kind, self.start, self.location_id, self.minutes, self.with_ids, clinician_id=clinician_id)


@dataclass(frozen=True)
class Visit(Wish):
    """A wish for a certain clinician."""

    clinician_id: UUID = field(kw_only=True)

    @property
    def clinicians(self) -> list[UUID]:
        """All who take part."""
        return [self.clinician_id, *self.with_ids]


def visit_of(kind: AppointmentType, appointment: Appointment) -> Visit:
    """The time that an appointment has."""
    return Visit(
        kind,
        appointment.start_at,
        appointment.location_id,
        (appointment.end_at - appointment.start_at) // timedelta(minutes=1),
        appointment.with_clinician_ids,
        clinician_id=appointment.clinician_id,
    )


def find_place(visit: Visit, own_id: UUID | None = None) -> Any:
    """What ``slots.place`` knows of the time. Raises ``NotFound`` for a type or clinician that is not there."""
    place = slots.place(
        appointment_type_id=visit.kind.id,
        clinician_id=visit.clinician_id,
        location_id=visit.location_id,
        start=visit.start,
        now=clock.now(),
        own_id=own_id,
        minutes=visit.minutes,
        with_ids=visit.with_ids,
    )
    if place is None:
        raise NotFound("There is no such appointment type in your organisation.")
    if place.clinician_id is None:
        raise NotFound("There is no such clinician in your organisation.")
    return place


def wanted(visit: Visit, place: Any, patient_id: UUID | None) -> Sequence[Claim]:
    """What the visit claims; without a patient, for a hold. Buffers are no time of the patient's."""
    taken = [(clinician_id, "clinician") for clinician_id in visit.clinicians]
    taken += zip(place.device_ids or (), place.device_claims or (), strict=True)
    if place.room_id:
        taken.append((place.room_id, "room"))
    claimed = [Claim(bookable_id, kind, place.claims_from, place.claims_until) for bookable_id, kind in taken]
    return [*claimed, Claim(patient_id, "patient", visit.start, place.ends)] if patient_id else claimed


def attempt(
    visit: Visit, patient_id: UUID | None, take: Take, *, own_id: UUID | None = None, whatever_hours: bool = False
) -> tuple[Any, list[type[NotBookable]]]:
    """Take this time: where it is, and what stands in the way, or nothing.

    What ``own_id``, an appointment, a hold or a group, has claimed is not in the way. Raises ``NotFound``.
    """
    claims.lock([*visit.clinicians, *([patient_id] if patient_id else [])])
    while True:
        place = find_place(visit, own_id)
        claimed = wanted(visit, place, patient_id)
        reasons = [] if whatever_hours else against_hours(visit, place)
        reasons += against_things(visit, place)
        if reasons:
            return place, [*reasons, *claims.busy(claimed, but=own_id)]
        reasons = _take_with_things(claimed, take) if visit.kind.needs_things else take(claimed)
        if not reasons or not THINGS.issuperset(reasons):
            return place, reasons


def against_hours(visit: Visit, place: Any) -> list[type[NotBookable]]:
    """What the type and the clinician's hours have against the time."""
    reasons: list[type[NotBookable]] = []
    if visit.start < place.earliest:
        reasons.append(TooSoon)
    if place.beyond_horizon:
        reasons.append(BeyondHorizon)
    if place.time_zone is None or place.absent:
        reasons.append(OutsideAvailability)
    return reasons


def against_things(visit: Visit, place: Any) -> list[type[NotBookable]]:
    """The room or device that is not to be had there; nothing is known of them where there is no place at all."""
    if not visit.kind.needs_things or place.equipped or place.equipped is None:
        return []
    return [RoomTaken if visit.kind.needs_room and place.room_id is None else DeviceTaken]


def _take_with_things(claimed: Sequence[Claim], take: Take) -> list[type[NotBookable]]:
    """Take rooms and devices too; where somebody had one of them first, nothing is done or locked.

    Another may be free, so the place is looked for again: each time, somebody else has come through.
    """
    savepoint = db.session.begin_nested()
    reasons = take(claimed)
    if reasons and THINGS.issuperset(reasons):
        savepoint.rollback()
    else:
        savepoint.commit()
    return reasons


def next_free(
    wish: Wish, clinician_ids: Sequence[UUID] | None, specialty: str | None, appointment: Appointment | None
) -> Sequence[FreeTime]:
    """The next times from the wish's start on at which the same would work, a few at most."""
    begin = max(wish.start, clock.now())
    found = slots.search(
        appointment_type_id=wish.kind.id,
        start=begin,
        until=begin + OFFERED_WITHIN,
        clinician_ids=clinician_ids,
        specialty=specialty,
        location_id=wish.location_id,
        now=clock.now(),
        limit=LOOKED_THROUGH,
        after=None,
        minutes=wish.minutes,
        with_ids=wish.with_ids,
    )
    free = [FreeTime(slot.clinician_id, slot.location_id, slot.start, slot.end) for slot in found or ()]
    if appointment and free:
        free = suitable(wish.kind, free, appointment)
    return free[:OFFERED]


def suitable(kind: AppointmentType, free: list[FreeTime], appointment: Appointment) -> list[FreeTime]:
    """Those of the times, in order, at which the patient is free too, on days that take more of the type."""
    taken = claims.times_of([appointment.patient_id], free[0].start, max(time.end for time in free))
    others = [claim for claim in taken if claim.appointment_id != appointment.id]
    apart = [time for time in free if all(time.end <= other.start or other.end <= time.start for other in others)]
    full = limits.full_days(kind, [(time.clinician_id, time.start) for time in apart], [appointment.id])
    return [time for n, time in enumerate(apart) if n not in full]
