"""Exceptions from the weekly hours of a clinician: one-off openings, and time off. Neither touches what is booked."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select, tuple_

from medical.audit import service as audit
from medical.people import service as people
from medical.people.models import Clinician
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import policy, service, windows
from medical.scheduling.hours_models import AvailabilityException


class Kind(StrEnum):
    """What an exception does to a diary."""

    OPEN = "open"
    CLOSED = "closed"


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
    windows.hold()
    opening = make(
        actor, Kind.OPEN, clinician, location_id=location_id, appointment_type_ids=appointment_type_ids, **times
    )
    audit.touch("availability-exception", opening.id)
    return add(opening)


def make(
    actor: Actor, kind: Kind, clinician: Clinician, *, start: datetime, end: datetime, **details: Any
) -> AvailabilityException:
    """An exception that does not count yet."""
    return AvailabilityException(
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


def add(exception: AvailabilityException) -> AvailabilityException:
    """Let the exception count. The caller holds the windows."""
    db.session.add(exception)
    _refresh(exception)
    return exception


def _refresh(exception: AvailabilityException) -> None:
    windows.refresh([exception.clinician_id], windows.around(exception.start_at, exception.end_at))


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
