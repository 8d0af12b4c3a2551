"""Free times for appointments that cannot stay: near them with the same clinician, or with a colleague on the same day.

As many statements for a hundred appointments of one type as for two.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from itertools import chain, groupby, islice
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select

from medical.people.models import Clinician
from medical.platform import clock
from medical.platform.db import db
from medical.scheduling import claims, limits, slots
from medical.scheduling.claims import Claimed
from medical.scheduling.errors import FreeTime
from medical.scheduling.hours_models import AvailabilityException
from medical.scheduling.models import Appointment, AppointmentType
from medical.scheduling.slots import Slot
from medical.scheduling.times import OFFERED

BEFORE, AFTER = timedelta(days=1), timedelta(days=14)
"""So far before and after the time off another time with the same clinician is looked for."""
FEW, MANY = 100, 1000
"""So many free times are looked through: of the clinician, and one more for each appointment; of all on a day."""


class Like(NamedTuple):
    """What appointments have in common that the same search serves."""

    appointment_type_id: UUID
    clinician_id: UUID
    location_id: UUID | None
    minutes: int
    with_ids: tuple[UUID, ...]


def beside(
    time_off: AvailabilityException, clinician: Clinician, visits: Sequence[Appointment]
) -> Mapping[UUID, Sequence[FreeTime]]:
    """The nearest free times for each visit outside the time off, a few at most.

    All could move to the first of theirs together: but for seats of groups, none of these is proposed to two.
    """
    if not visits:
        return {}
    alike: dict[Like, list[Appointment]] = {}
    for visit in visits:
        alike.setdefault(_like(visit), []).append(visit)
    types = select(AppointmentType).where(AppointmentType.id.in_({like.appointment_type_id for like in alike}))
    kinds = {kind.id: kind for kind in db.session.scalars(types)}
    free = {like: _free(time_off, clinician, like, kinds[like.appointment_type_id], alike[like]) for like in alike}
    return _assign(visits, free, kinds)


def _like(visit: Appointment) -> Like:
    minutes = (visit.end_at - visit.start_at) // timedelta(minutes=1)
    return Like(
        visit.appointment_type_id, visit.clinician_id, visit.location_id, minutes, (*sorted(visit.with_clinician_ids),)
    )


def _free(
    time_off: AvailabilityException,
    clinician: Clinician,
    like: Like,
    kind: AppointmentType,
    visits: Sequence[Appointment],
) -> Sequence[Slot]:
    """Where such visits could be, in order: with their clinician, or with a colleague who is no part yet."""
    spans = [(time_off.start_at - BEFORE, time_off.start_at), (time_off.end_at, time_off.end_at + AFTER)]
    found = [*_search(like, [like.clinician_id], None, spans, FEW + len(visits))]
    if clinician.id == like.clinician_id and clinician.specialty:
        found += _search(like, None, clinician.specialty, _days(visits, clinician.time_zone), MANY)
    possible = [
        slot
        for slot in set(found)
        if slot.clinician_id not in like.with_ids
        and not (
            clinician.id in (slot.clinician_id, *like.with_ids) and _touches(slot, time_off.start_at, time_off.end_at)
        )
    ]
    possible.sort(key=lambda slot: (slot.start, slot.clinician_id))
    full = limits.full_days(kind, [(slot.clinician_id, slot.start) for slot in possible], [one.id for one in visits])
    return [slot for n, slot in enumerate(possible) if n not in full]


def _search(
    like: Like,
    clinician_ids: Sequence[UUID] | None,
    specialty: str | None,
    spans: Sequence[tuple[datetime, datetime]],
    limit: int,
) -> Iterable[Slot]:
    return chain.from_iterable(
        slots.search_each(
            appointment_type_id=like.appointment_type_id,
            clinician_ids=clinician_ids,
            specialty=specialty,
            location_id=like.location_id,
            spans=spans,
            now=clock.now(),
            limit=limit,
            minutes=like.minutes,
            with_ids=like.with_ids,
        )
    )


def _days(visits: Sequence[Appointment], zone: str) -> Sequence[tuple[datetime, datetime]]:
    """The days, by the clock of the zone, on which the visits are."""
    days = sorted({visit.start_at.astimezone(ZoneInfo(zone)).date() for visit in visits})
    midnights = [datetime.combine(day, time(), ZoneInfo(zone)) for day in days]
    return [(midnight, midnight + timedelta(days=1)) for midnight in midnights]


def _touches(slot: Slot, start: datetime, end: datetime) -> bool:
    return slot.start < end and slot.end > start


def _outward(free: Sequence[Slot], visit: Appointment) -> Iterator[Slot]:
    """The times, which are in order, by how far they are from the visit; of two as far, the same clinician's first."""

    def away(slot: Slot) -> tuple[timedelta, bool, datetime, UUID]:
        another = slot.clinician_id != visit.clinician_id
        return abs(slot.start - visit.start_at), another, slot.start, slot.clinician_id

    for _, equally_far in groupby(_by_distance(free, visit.start_at), lambda slot: abs(slot.start - visit.start_at)):
        yield from sorted(equally_far, key=away)


def _by_distance(free: Sequence[Slot], start: datetime) -> Iterator[Slot]:
    """The times, which are in order, by how far they are from the start; looked at only as far as asked for."""
    ahead = bisect_left(free, start, key=lambda slot: slot.start)
    back = ahead - 1
    while back >= 0 or ahead < len(free):
        if back < 0 or (ahead < len(free) and free[ahead].start - start < start - free[back].start):
            yield free[ahead]
            ahead += 1
        else:
            yield free[back]
            back -= 1


def _assign(
    visits: Sequence[Appointment], free: Mapping[Like, Sequence[Slot]], kinds: Mapping[UUID, AppointmentType]
) -> Mapping[UUID, Sequence[FreeTime]]:
    """The nearest for each at which the patient is free too, but none that was proposed first to one before."""
    taken = _claimed(visits, free)
    proposed: dict[UUID, Sequence[FreeTime]] = {}
    for visit in visits:
        suits = (
            slot
            for slot in _outward(free[_like(visit)], visit)
            if not any(
                _touches(slot, claim.start, claim.end)
                for claim in (*taken[visit.patient_id], *taken[slot.clinician_id])
                if claim.appointment_id != visit.id
            )
        )
        chosen = [*islice(suits, OFFERED)]
        seated = kinds[visit.appointment_type_id].group_capacity is not None
        for slot in chosen[:1]:
            for whose in (visit.patient_id, *([] if seated else [slot.clinician_id])):
                taken[whose].append(Claimed(whose, None, slot.start, slot.end))
        proposed[visit.id] = [FreeTime(one.clinician_id, one.location_id, one.start, one.end) for one in chosen]
    return proposed


def _claimed(visits: Sequence[Appointment], free: Mapping[Like, Sequence[Slot]]) -> defaultdict[UUID, list[Claimed]]:
    """The patients' claims on their own time within that of the free times."""
    claimed: defaultdict[UUID, list[Claimed]] = defaultdict(list)
    if slots_of_all := [*chain.from_iterable(free.values())]:
        begin, end = min(slot.start for slot in slots_of_all), max(slot.end for slot in slots_of_all)
        for claim in claims.times_of({visit.patient_id for visit in visits}, begin, end):
            claimed[claim.bookable_id].append(claim)
    return claimed
