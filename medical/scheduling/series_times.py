"""Times for many appointments of one patient at once: as many statements for a hundred as for two."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from medical.platform import clock
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import claims, groups, limits, slots, times
from medical.scheduling.claims import Claim, ClaimOf
from medical.scheduling.errors import IN_ORDER, DayFull, FreeTime, NotBookable, PatientLimit
from medical.scheduling.models import Appointment, AppointmentType
from medical.scheduling.times import Visit

BEFORE, AFTER = timedelta(days=1), timedelta(days=7)
"""So far around a time that is refused another one is looked for."""
LOOKED_THROUGH = 100
"""So many free times on each side of it are looked through."""


@dataclass
class Occurrence:
    """One occurrence on its way to a time: where it would be, and what stands in the way."""

    number: int
    appointment: Appointment
    start: datetime
    place: Any = None
    claims: Sequence[Claim] = ()
    reasons: list[type[NotBookable]] = field(default_factory=list)
    proposed: Sequence[FreeTime] = ()


@dataclass(frozen=True)
class Search:
    """With whom, and where, the occurrences of a patient are to be."""

    kind: AppointmentType
    patient_id: UUID
    clinician_id: UUID
    location_id: UUID | None

    def visit(self, start: datetime) -> Visit:
        """The time that an occurrence has if it starts then."""
        return Visit(self.kind, start, self.location_id, clinician_id=self.clinician_id)


def settle(search: Search, occurrences: Sequence[Occurrence], *, whole: bool) -> None:
    """Claim the times; each occurrence then knows its place, or what stands in the way. If ``whole``, all or none.

    The caller has the locks on the time of clinician and patient. A room or device that somebody else
    got meanwhile is looked for again; locks on such do not outlast the attempt (see ``times``).
    """
    crossed: dict[UUID, list[type[NotBookable]]] = {}
    while True:
        _look(search, occurrences, crossed)
        good = [occurrence for occurrence in occurrences if not occurrence.reasons]
        if not good or (whole and len(good) < len(occurrences)):
            return
        savepoint = db.session.begin_nested()
        missing = claims.claim_each(_wanted(good))
        if not missing:
            savepoint.commit()
            return
        savepoint.rollback()
        for appointment_id, claim in missing:
            if (refusal := claims.REFUSALS[claim.kind]) not in times.THINGS:
                crossed.setdefault(appointment_id, []).append(refusal)


def _look(search: Search, occurrences: Sequence[Occurrence], crossed: dict[UUID, list[type[NotBookable]]]) -> None:
    """See what is to be had; ``crossed`` are occurrences that other ones of the same series keep out."""
    found = slots.places(
        appointment_type_id=search.kind.id,
        clinician_id=search.clinician_id,
        location_id=search.location_id,
        starts=[occurrence.start for occurrence in occurrences],
        now=clock.now(),
    )
    if not found or found[0].clinician_id is None:
        raise NotFound("There is no such clinician in your organisation.")
    for occurrence, place in zip(occurrences, found, strict=True):
        visit = search.visit(occurrence.start)
        occurrence.place = groups.alone(place)
        occurrence.claims = times.wanted(visit, place, search.patient_id)
        occurrence.reasons = [*times.against_hours(visit, place), *times.against_things(visit, place)]
    busy = claims.busy_each(_wanted(occurrences))
    own = [occurrence.appointment.id for occurrence in occurrences]
    full = limits.full_days(search.kind, [(search.clinician_id, one.start) for one in occurrences], own)
    left = limits.left_to(search.kind, search.patient_id, own)
    for n, occurrence in enumerate(occurrences):
        others = (busy.get(occurrence.appointment.id, ()), crossed.get(occurrence.appointment.id, ()))
        occurrence.reasons += [*chain(*others), *([DayFull] if n in full else ())]
        if left == 0:
            occurrence.reasons.append(PatientLimit)
        elif left and not occurrence.reasons:
            left -= 1
        occurrence.reasons = sorted(set(occurrence.reasons), key=IN_ORDER.index)


def _wanted(occurrences: Sequence[Occurrence]) -> list[ClaimOf]:
    return [ClaimOf(one.appointment.id, claim) for one in occurrences for claim in one.claims]


def propose(search: Search, occurrences: Sequence[Occurrence]) -> None:
    """Let those that are refused know the nearest free times, if others could do; what the series has is taken."""
    refused = [one for one in occurrences if one.reasons and PatientLimit not in one.reasons]
    if not refused:
        return
    found = slots.search_each(
        appointment_type_id=search.kind.id,
        clinician_ids=[search.clinician_id],
        location_id=search.location_id,
        spans=[span for one in refused for span in ((one.start - BEFORE, one.start), (one.start, one.start + AFTER))],
        now=clock.now(),
        limit=LOOKED_THROUGH,
    )
    near = {slot for slots_of in found for slot in slots_of}
    free = [FreeTime(slot.clinician_id, slot.location_id, slot.start, slot.end) for slot in near]
    suitable = set(_suitable(search, free))
    for occurrence, before, after in zip(refused, found[::2], found[1::2], strict=True):
        own = [FreeTime(slot.clinician_id, slot.location_id, slot.start, slot.end) for slot in (*before, *after)]
        nearest = sorted((time for time in own if time in suitable), key=lambda time: _away(time, occurrence.start))
        occurrence.proposed = sorted(nearest[: times.OFFERED], key=lambda time: time.start)


def _suitable(search: Search, free: list[FreeTime]) -> list[FreeTime]:
    """Those at which the patient is free too, on days that take more."""
    visit = Appointment(id=new_id(), patient_id=search.patient_id)
    return times.suitable(search.kind, sorted(free, key=lambda time: time.start), visit) if free else []


def _away(time: FreeTime, start: datetime) -> tuple[timedelta, datetime]:
    return abs(time.start - start), time.start
