"""One-off openings of a clinician's diary, and time off. Neither touches what is booked."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, tuple_

from medical.audit import service as audit
from medical.people import service as people
from medical.people.models import Clinician
from medical.platform.authz import Actor
from medical.platform.db import db, unattended
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import claims, policy, queries, service, windows
from medical.scheduling.hours_models import AvailabilityException
from medical.scheduling.models import Appointment, Status

HOLDING = (Status.REQUESTED, Status.BOOKED, Status.ARRIVED, Status.CHECKED_IN, Status.IN_PROGRESS)
"""Statuses of visits that time off would hit."""
LONGEST_VISIT = timedelta(days=1)


class Kind(StrEnum):
    """What an exception does to a diary."""

    OPEN = "open"
    CLOSED = "closed"


class Affected(NamedTuple):
    """The visits that time off hits: those the actor may see, and how many others."""

    visible: Sequence[Appointment]
    others: int


def open_once(
    actor: Actor, *, clinician_id: UUID, location_id: UUID | None, appointment_type_ids: list[UUID] | None, **times: Any
) -> AvailabilityException:
    """A one-off opening, at the clinician's site unless another is given; time off still closes it.

    Raises ``NotFound`` for a clinician, location or type that is not there, and ``NotYourDiary``.
    """
    clinician = people.get_clinician(clinician_id)
    policy.ensure_can_edit_hours(actor, clinician_id)
    location_id = location_id or clinician.location_id
    service.ensure_references(location_id, appointment_type_ids)
    return _add(
        actor, Kind.OPEN, clinician, location_id=location_id, appointment_type_ids=appointment_type_ids, **times
    )


def take_time_off(actor: Actor, *, clinician_id: UUID, **times: Any) -> tuple[AvailabilityException, Affected]:
    """Close the diary of a clinician for a time; what was booked stays, and is named.

    Raises ``NotFound`` or ``NotYourDiary``.
    """
    clinician = people.get_clinician(clinician_id)
    policy.ensure_can_edit_hours(actor, clinician_id)
    time_off = _add(actor, Kind.CLOSED, clinician, **times)
    claims.lock([clinician_id])  # who books at this moment is waited for, and named
    return time_off, _affected(actor, time_off)


def _add(
    actor: Actor, kind: Kind, clinician: Clinician, *, start: datetime, end: datetime, **details: Any
) -> AvailabilityException:
    windows.hold()
    exception = AvailabilityException(
        id=new_id(),
        clinician_id=clinician.id,
        kind=kind,
        start_at=start,
        end_at=end,
        local_day=start.astimezone(ZoneInfo(clinician.time_zone)).date(),
        time_zone=clinician.time_zone,
        created_by=actor.user_id,
        **details,
    )
    db.session.add(exception)
    _refresh(exception)
    audit.touch("availability-exception", exception.id)
    return exception


def _refresh(exception: AvailabilityException) -> None:
    windows.refresh([exception.clinician_id], windows.around(exception.start_at, exception.end_at))


def _affected(actor: Actor, time_off: AvailabilityException) -> Affected:
    hit = (
        queries.of_clinician(time_off.clinician_id),
        Appointment.status.in_(HOLDING),
        Appointment.start_at < time_off.end_at,
        Appointment.start_at > time_off.start_at - LONGEST_VISIT,
        Appointment.end_at > time_off.start_at,
    )
    query = queries.visible_appointments(actor).where(*hit).order_by(Appointment.start_at, Appointment.id)
    visible = db.session.scalars(query).all()
    for appointment in visible:
        audit.touch("appointment", None, patient_id=appointment.patient_id)
    with unattended():
        count = db.session.scalars(select(func.count()).select_from(Appointment).where(*hit)).one()
    return Affected(visible, count - len(visible))


def get(kind: Kind, exception_id: UUID) -> AvailabilityException:
    """An opening or time off. Raises ``NotFound``."""
    query = select(AvailabilityException).where(
        AvailabilityException.id == exception_id, AvailabilityException.kind == kind
    )
    exception = db.session.scalars(query).first()
    if exception is None:
        raise NotFound
    audit.touch("availability-exception", exception_id)
    return exception


def find(
    kind: Kind,
    *,
    clinician_id: UUID | None,
    start: datetime | None,
    until: datetime | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> Sequence[AvailabilityException]:
    """Openings or time off that touch [start, until), by start and id, one more than ``limit`` if more follow."""
    order = (AvailabilityException.start_at, AvailabilityException.id)
    query = select(AvailabilityException).where(AvailabilityException.kind == kind).order_by(*order).limit(limit + 1)
    if clinician_id:
        query = query.where(AvailabilityException.clinician_id == clinician_id)
    if start:
        query = query.where(AvailabilityException.end_at > start)
    if until:
        query = query.where(AvailabilityException.start_at < until)
    if after:
        query = query.where(tuple_(*order) > after)
    return db.session.scalars(query).all()


def remove(actor: Actor, kind: Kind, exception_id: UUID) -> None:
    """Take an opening or time off back; what is booked stays. Raises ``NotFound`` or ``NotYourDiary``."""
    windows.hold()
    exception = get(kind, exception_id)
    policy.ensure_can_edit_hours(actor, exception.clinician_id)
    db.session.delete(exception)
    _refresh(exception)
