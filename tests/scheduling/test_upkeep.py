"""Diaries are looked after without anybody asking, whoever has them."""

from datetime import UTC, datetime, timedelta
from unittest import mock

from sqlalchemy import func, select

from medical.platform import clock
from medical.platform.db import Scope, db, scoped
from medical.scheduling import upkeep
from medical.scheduling.hours_models import Holiday, OpenWindow
from tests.clinic import Clinic

LATER = timedelta(days=100)


def kept_up(after: timedelta, *clinics: Clinic) -> int:
    """The number of those whose days were opened that much later."""
    with clinics[0].app.app_context(), mock.patch.object(clock, "now", return_value=datetime.now(UTC) + after):
        return upkeep.run([one.organization_id for one in clinics]).organizations


def reach(clinic: Clinic) -> tuple[timedelta, timedelta]:
    """From when to when, counted from today, windows are there."""
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        first, last = db.session.execute(select(func.min(OpenWindow.local_day), func.max(OpenWindow.local_day))).one()
        db.session.rollback()
        today = datetime.now(UTC).date()
        return first - today, last - today


def test_windows_come_and_go_with_the_days(clinic: Clinic, other_clinic: Clinic) -> None:
    """In every organisation, and once a day."""
    for one in (clinic, other_clinic):
        one.hours(one.clinician(time_zone="UTC"))
        assert reach(one) == (timedelta(days=-2), timedelta(days=566))
    assert kept_up(LATER, clinic, other_clinic) == 2
    for one in (clinic, other_clinic):
        assert reach(one) == (LATER - timedelta(days=2), LATER + timedelta(days=566))
    assert kept_up(LATER, clinic, other_clinic) == 0


def test_the_holidays_of_coming_years_close_them(clinic: Clinic) -> None:
    """National holidays are written as far as windows reach."""
    site = clinic.location(time_zone="UTC")
    clinic.hours(clinic.clinician(time_zone="UTC", location_id=site["id"]))
    assert clinic.admin.put(f"/locations/{site['id']}/holiday-calendar", {"country": "DE"}).status_code == 200
    years = timedelta(days=3 * 365)
    kept_up(years, clinic)
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        days = set(db.session.scalars(select(Holiday.day)))
        open_days = set(db.session.scalars(select(OpenWindow.local_day)))
        db.session.rollback()
    first = (datetime.now(UTC) + years).date()
    assert {day for day in days if first <= day <= first + timedelta(days=560)}
    assert open_days.isdisjoint(days)
    assert min(days) >= first - timedelta(days=2)
