"""What diaries need once a day: open windows for the days that come, none for those that are over."""

from datetime import date

from sqlalchemy import select, text

from medical.platform import clock
from medical.platform.db import Scope, db, enter
from medical.scheduling import holiday_calendar, windows
from medical.scheduling.hours_models import HolidayCalendar

DUE = text("SELECT id FROM upkeep WHERE kept_on IS DISTINCT FROM :today ORDER BY id")
DONE = text("UPDATE upkeep SET kept_on = :today WHERE id = :id")


def run() -> int:
    """Look after every organisation that nobody looked after today; how many.

    A short transaction for some clinicians at a time, so that nobody who changes hours waits long. What
    is interrupted is done again the next time, and finds most of it right.
    """
    today = clock.now().date()
    due = db.session.scalars(DUE, {"today": today}).all()
    db.session.rollback()
    try:
        for organization_id in due:
            enter(Scope(organization_id))
            _look_after(today)
            db.session.execute(DONE, {"today": today, "id": organization_id})
            db.session.commit()
    finally:
        db.session.rollback()
        enter(None)
    return len(due)


def _look_after(today: date) -> None:
    windows.hold()
    for calendar in db.session.scalars(select(HolidayCalendar).order_by(HolidayCalendar.location_id)).all():
        holiday_calendar.write_national(calendar)
    windows.forget_past()
    db.session.commit()
    for clinician_ids in [*windows.batches()]:
        windows.hold()
        windows.refresh(clinician_ids)
        db.session.commit()
