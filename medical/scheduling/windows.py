"""Open windows: the times in which a clinician can be booked, kept right by whatever changes them.

Every change of hours, one-off openings, time off or holidays refreshes the windows it may touch, in
its own transaction. The changes of one organisation follow each other (a lock until the end of the
transaction), so that no two of them miss each other's rows.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, text

from medical.people.models import Clinician
from medical.platform import clock
from medical.platform.db import db, scope_organization
from medical.scheduling import sql
from medical.scheduling.hours_models import OpenWindow
from medical.scheduling.models import Availability

DAYS_BACK = 2
"""A window that began two days ago may last: until the end of its next day, in a zone behind or ahead of UTC."""
DAYS_AHEAD = 566
"""The farthest horizon of an appointment type, 550 days, two for zones and nights, and a fortnight without upkeep."""
AT_ONCE = 50
"""Clinicians whose windows one statement of the upkeep looks after."""

REFRESH = text(sql.read("refresh.sql"))
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('hours ' || CAST(:organization_id AS text), 0))")


def hold() -> None:
    """Let no other change of hours of the organisation happen until the transaction ends."""
    db.session.execute(ONE_AT_A_TIME, {"organization_id": str(scope_organization())})


def kept(now: datetime | None = None) -> Sequence[date]:
    """The local days of which windows are kept."""
    today = (now or clock.now()).date()
    return [today + timedelta(days=n) for n in range(-DAYS_BACK, DAYS_AHEAD + 1)]


def around(start: datetime, end: datetime) -> Sequence[date]:
    """The kept days whose windows may touch [start, end)."""
    first, last = start.date() - timedelta(days=DAYS_BACK), end.date() + timedelta(days=1)
    return [day for day in kept() if first <= day <= last]


def refresh(clinician_ids: Sequence[UUID], days: Sequence[date] | None = None) -> None:
    """Make the windows of these clinicians right on these days, by default on all that are kept.

    The caller must ``hold`` since before it wrote what has changed.
    """
    db.session.flush()
    wanted = kept() if days is None else days
    if clinician_ids and wanted:
        db.session.execute(REFRESH, {"clinician_ids": list(clinician_ids), "days": list(wanted)})


def refresh_location(location_id: UUID, days: Sequence[date]) -> None:
    """Make the windows right of all who have hours at a site, on those of these days that are kept."""
    query = select(Availability.clinician_id).where(Availability.location_id == location_id).distinct()
    refresh(db.session.scalars(query).all(), sorted(set(days) & set(kept())))


def batches() -> Iterator[Sequence[UUID]]:
    """The clinicians of the organisation, some at a time."""
    ids = db.session.scalars(select(Clinician.id).order_by(Clinician.id)).all()
    for first in range(0, len(ids), AT_ONCE):
        yield ids[first : first + AT_ONCE]


def forget_past() -> None:
    """Remove the windows of days that are over."""
    db.session.execute(delete(OpenWindow).where(OpenWindow.local_day < kept()[0]))
