"""What diaries need without anybody asking: open windows for the days that come, lapsed offers passed on."""

from collections.abc import Collection
from datetime import date
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select, text

from medical.platform import clock
from medical.platform.db import Scope, db, enter
from medical.scheduling import holiday_calendar, waitlist, windows
from medical.scheduling.hours_models import HolidayCalendar

EACH = text(
    "SELECT id, kept_on IS DISTINCT FROM :today AS due FROM upkeep"
    " WHERE CAST(:only AS uuid[]) IS NULL OR id = ANY(:only) ORDER BY id"
)
DONE = text("UPDATE upkeep SET kept_on = :today WHERE id = :id")


class Done(NamedTuple):
    """What one run did."""

    organizations: int
    """So many had not been looked after today."""
    offers: int
    """So many offers had lapsed."""


def run(only: Collection[UUID] | None = None) -> Done:
    """Look after every organisation, or ``only`` these; what was done.

    Once a day for its windows, each time for its waitlist. Short transactions, so that nobody who changes
    hours or books waits long. What is interrupted is done again the next time, and finds most of it right.
    """
    today = clock.now().date()
    organizations = db.session.execute(EACH, {"today": today, "only": None if only is None else [*only]}).all()
    db.session.rollback()
    offers = 0
    try:
        for organization_id, due in organizations:
            enter(Scope(organization_id))
            if due:
                _open_days(organization_id, today)
            while waitlist.pass_on_lapsed():
                db.session.commit()
                offers += 1
            db.session.rollback()
    finally:
        db.session.rollback()
        enter(None)
    return Done(sum(due for _, due in organizations), offers)


def _open_days(organization_id: UUID, today: date) -> None:
    """Write holidays and windows as far as they reach, and forget those that are over."""
    windows.hold()
    for calendar in db.session.scalars(select(HolidayCalendar).order_by(HolidayCalendar.location_id)).all():
        holiday_calendar.write_national(calendar)
    windows.forget_past()
    db.session.commit()
    for clinician_ids in [*windows.batches()]:
        windows.hold()
        windows.refresh(clinician_ids)
        db.session.commit()
    db.session.execute(DONE, {"today": today, "id": organization_id})
    db.session.commit()
