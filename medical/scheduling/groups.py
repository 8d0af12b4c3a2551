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
from medical.scheduling.times import Visit


class Place(NamedTuple):
    """Where a group meets, until when, and by which clock."""

    location_id: UUID | None
    ends: datetime
    time_zone: str
    local_start: datetime


def take_seat(visit: Visit, appointment: Appointment) -> tuple[Any, list[type[NotBookable]]]:
    """Give the appointment a seat at this time: where it is, and what stands in the way, or nothing.

    The first to come claims the time of the clinician, and of what the group needs.
    """
    claims.lock([*visit.clinicians, appointment.patient_id])
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
        place, reasons = _join(visit, appointment, session)
    else:
        session = session or GroupSession(
            id=new_id(), clinician_id=visit.clinician_id, appointment_type_id=visit.kind.id, start_at=visit.start
        )
        place, reasons = _open(visit, appointment, session)
    if not reasons:
        session.booked += 1
        db.session.flush()
        appointment.session_id = session.id
    return place, reasons


def leave(appointment: Appointment) -> None:
    """Give the appointment's seat free; the last to leave gives the group's time free. The caller has the locks."""
    if appointment.session_id is None:
        return
    left = (
        update(GroupSession)
        .where(GroupSession.id == appointment.session_id)
        .values(booked=GroupSession.booked - 1)
        .returning(GroupSession.booked)
    )
    if db.session.scalar(left) == 0:
        claims.release_session(appointment.session_id)
    appointment.session_id = None


def _join(visit: Visit, appointment: Appointment, session: GroupSession) -> tuple[Any, list[type[NotBookable]]]:
    """A group that meets, meets: whatever became of the clinician's hours."""
    hours = times.against_hours(visit, times.find_place(visit))
    reasons = [reason for reason in hours if reason is not OutsideAvailability]
    if session.end_at != visit.end:
        reasons.append(SlotTaken)
    elif session.booked >= session.capacity:
        reasons.append(GroupFull)
    wanted = [Claim(appointment.patient_id, "patient", visit.start, visit.end)]
    reasons += claims.busy(wanted) if reasons else claims.claim(appointment.id, wanted)
    local_start = visit.start.astimezone(ZoneInfo(session.time_zone)).replace(tzinfo=None)
    return Place(session.location_id, session.end_at, session.time_zone, local_start), reasons


def _open(visit: Visit, appointment: Appointment, session: GroupSession) -> tuple[Any, list[type[NotBookable]]]:
    """The first seat of a group."""

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        session.end_at, session.capacity, session.booked = visit.end, visit.kind.group_capacity or 0, 0
        session.time_zone, session.location_id = "UTC", None
        db.session.add(session)
        db.session.flush()
        own = [claim for claim in wanted if claim.kind == "patient"]
        shared = [claim for claim in wanted if claim.kind != "patient"]
        return claims.claim_for_session(session.id, shared) + claims.claim(appointment.id, own)

    place, reasons = times.attempt(visit, appointment.patient_id, take, own_id=session.id)
    if not reasons:
        session.time_zone, session.location_id = place.time_zone, place.location_id
    return place, reasons
