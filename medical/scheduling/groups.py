"""Groups: visits to which several patients come, each to a seat."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select, update

from medical.platform.db import db
from medical.platform.ids import new_id
from medical.scheduling import claims, times
from medical.scheduling.claims import Claim
from medical.scheduling.errors import GroupFull, NotBookable, OutsideAvailability, SlotTaken
from medical.scheduling.models import Appointment, GroupSession
from medical.scheduling.times import Take, Visit


class Place(NamedTuple):
    """Where an appointment is, until when, by which clock, and of which group."""

    location_id: UUID | None
    ends: datetime
    time_zone: str | None
    local_start: datetime | None
    session_id: UUID | None = None


def attempt(
    visit: Visit, appointment: Appointment, take: Take, *, own_id: UUID | None = None, whatever_hours: bool = False
) -> tuple[Place, list[type[NotBookable]]]:
    """Take this time for the appointment, or a seat in the group that meets then.

    Where it is, and what stands in the way, or nothing. See ``times.attempt``.
    """
    if visit.kind.group_capacity:
        return _take_seat(visit, appointment, visit.kind.group_capacity)
    found, reasons = times.attempt(visit, appointment.patient_id, take, own_id=own_id, whatever_hours=whatever_hours)
    return alone(found), reasons


def alone(found: Any) -> Place:
    """The place that was found, for a visit that is no group's."""
    return Place(found.location_id, found.ends, found.time_zone, found.local_start)


def leave(session_id: UUID) -> None:
    """Give a seat free; the last to leave gives the group's time free. The caller has the locks."""
    left = (
        update(GroupSession)
        .where(GroupSession.id == session_id)
        .values(booked=GroupSession.booked - 1)
        .returning(GroupSession.booked)
    )
    if db.session.scalar(left) == 0:
        claims.release_session(session_id)


def _take_seat(visit: Visit, appointment: Appointment, capacity: int) -> tuple[Place, list[type[NotBookable]]]:
    """The first to come claims the time of the clinician, and of what the group needs."""
    claims.lock([visit.clinician_id, appointment.patient_id])
    session = db.session.scalars(
        select(GroupSession)
        .where(
            GroupSession.clinician_id == visit.clinician_id,
            GroupSession.start_at == visit.start,
            GroupSession.appointment_type_id == visit.kind.id,
        )
        .with_for_update()
    ).first()
    if session and session.booked:
        return _join(visit, appointment, session)
    session = session or GroupSession(
        id=new_id(), clinician_id=visit.clinician_id, appointment_type_id=visit.kind.id, start_at=visit.start
    )
    return _open(visit, appointment, session, capacity)


def _join(visit: Visit, appointment: Appointment, session: GroupSession) -> tuple[Place, list[type[NotBookable]]]:
    """A group that meets, meets: whatever became of the clinician's hours."""
    hours = times.against_hours(visit, times.find_place(visit))
    reasons = [reason for reason in hours if reason is not OutsideAvailability]
    if session.end_at != visit.end:
        reasons.append(SlotTaken)
    elif session.booked >= session.capacity:
        reasons.append(GroupFull)
    wanted = [Claim(appointment.patient_id, "patient", visit.start, visit.end)]
    reasons += claims.busy(wanted) if reasons else claims.claim(appointment.id, wanted)
    if not reasons:
        session.booked += 1
        db.session.flush()
    local_start = visit.start.astimezone(ZoneInfo(session.time_zone)).replace(tzinfo=None)
    return Place(session.location_id, session.end_at, session.time_zone, local_start, session.id), reasons


def _open(
    visit: Visit, appointment: Appointment, session: GroupSession, capacity: int
) -> tuple[Place, list[type[NotBookable]]]:
    """The first seat of a group."""

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        own = [claim for claim in wanted if claim.kind == "patient"]
        shared = [claim for claim in wanted if claim.kind != "patient"]
        return claims.claim_for_session(session.id, shared) + claims.claim(appointment.id, own)

    place, reasons = times.attempt(visit, appointment.patient_id, take, own_id=session.id)
    if not reasons:
        session.location_id, session.time_zone, session.end_at = place.location_id, place.time_zone, place.ends
        session.capacity, session.booked = capacity, 1
        db.session.add(session)
        db.session.flush()
    return Place(place.location_id, place.ends, place.time_zone, place.local_start, session.id), reasons
