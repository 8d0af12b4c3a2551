"""The days on which a site is closed: national holidays by its calendar, and days of its own."""

from collections.abc import Sequence
from datetime import date
from functools import cache
from uuid import UUID

from sqlalchemy import delete, select, tuple_

from medical.audit import service as audit
from medical.people import service as people
from medical.platform.db import db, flush_or_raise
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import windows
from medical.scheduling.errors import HolidayExists, NationalHoliday
from medical.scheduling.hours_models import Holiday, HolidayCalendar

OWN, NATIONAL = "own", "national"
LANGUAGE = "en_US"


@cache
def countries() -> dict[str, Sequence[str]]:
    """The countries whose holidays are known, by ISO 3166-1 alpha-2, and their subdivisions."""
    import holidays  # late: a moment at the start of every process, and seldom needed

    known = holidays.list_supported_countries(include_aliases=False)
    return {country: subdivisions for country, subdivisions in known.items() if len(country) == 2}


@cache
def national(country: str, subdivision: str | None, years: tuple[int, ...]) -> dict[date, str]:
    """The public holidays of these years, in English where the library has that."""
    import holidays

    languages = holidays.list_localized_countries(include_aliases=False).get(country, ())
    language = LANGUAGE if LANGUAGE in languages else None
    return dict(holidays.country_holidays(country, subdiv=subdivision, years=years, language=language))


def keep_calendar(location_id: UUID, country: str, subdivision: str | None) -> HolidayCalendar:
    """Let a site keep the holidays of a country from now on. Raises ``NotFound``."""
    people.ensure_location(location_id)
    windows.hold()
    calendar = db.session.get(HolidayCalendar, location_id)
    if calendar is None:
        calendar = HolidayCalendar(location_id=location_id, country=country, subdivision=subdivision)
        db.session.add(calendar)
    calendar.country, calendar.subdivision = country, subdivision
    write_national(calendar)
    audit.touch("holiday-calendar", location_id)
    return calendar


def get_calendar(location_id: UUID) -> HolidayCalendar:
    """Whose holidays a site keeps. Raises ``NotFound`` where it keeps none."""
    calendar = db.session.scalars(select(HolidayCalendar).where(HolidayCalendar.location_id == location_id)).first()
    if calendar is None:
        raise NotFound
    return calendar


def drop_calendar(location_id: UUID) -> None:
    """Let a site keep no national holidays any more. Raises ``NotFound``."""
    windows.hold()
    db.session.delete(get_calendar(location_id))
    days = _forget_national(location_id)
    windows.refresh_location(location_id, days)
    audit.touch("holiday-calendar", location_id)


def write_national(calendar: HolidayCalendar) -> None:
    """Write down the national holidays of the days whose windows are kept, and make the windows right.

    The caller must ``hold``.
    """
    kept = windows.kept()
    years = tuple(range(kept[0].year, kept[-1].year + 1))
    found = national(calendar.country, calendar.subdivision, years)
    before = _forget_national(calendar.location_id)
    db.session.add_all(
        Holiday(id=new_id(), location_id=calendar.location_id, day=day, name=name, origin=NATIONAL, closed=True)
        for day, name in sorted(found.items())
        if day >= kept[0]
    )
    db.session.flush()
    windows.refresh_location(calendar.location_id, [*before, *found])


def _forget_national(location_id: UUID) -> Sequence[date]:
    forgotten = delete(Holiday).where(Holiday.location_id == location_id, Holiday.origin == NATIONAL)
    return db.session.scalars(forgotten.returning(Holiday.day)).all()


def add_day(location_id: UUID, *, day: date, name: str, closed: bool) -> Holiday:
    """A day of the site's own: closed, or open although it is a national holiday.

    Raises ``NotFound`` or ``HolidayExists``.
    """
    people.ensure_location(location_id)
    windows.hold()
    holiday = Holiday(id=new_id(), location_id=location_id, day=day, name=name, origin=OWN, closed=closed)
    db.session.add(holiday)
    flush_or_raise({"uq_holiday_location_id_day_origin": HolidayExists})
    windows.refresh_location(location_id, [day])
    audit.touch("holiday", holiday.id)
    return holiday


def get_day(location_id: UUID, holiday_id: UUID) -> Holiday:
    """A holiday of a site. Raises ``NotFound``."""
    query = select(Holiday).where(Holiday.location_id == location_id, Holiday.id == holiday_id)
    holiday = db.session.scalars(query).first()
    if holiday is None:
        raise NotFound
    return holiday


def list_days(location_id: UUID, limit: int, after: tuple[date, str] | None) -> Sequence[Holiday]:
    """A site's holidays by day and origin, one more than ``limit`` when more follow. Raises ``NotFound``."""
    people.ensure_location(location_id)
    query = select(Holiday).where(Holiday.location_id == location_id).order_by(Holiday.day, Holiday.origin)
    if after:
        query = query.where(tuple_(Holiday.day, Holiday.origin) > after)
    return db.session.scalars(query.limit(limit + 1)).all()


def remove_day(location_id: UUID, holiday_id: UUID) -> None:
    """Take a day of the site's own back. Raises ``NotFound`` or ``NationalHoliday``."""
    windows.hold()
    holiday = get_day(location_id, holiday_id)
    if holiday.origin == NATIONAL:
        raise NationalHoliday
    db.session.delete(holiday)
    db.session.flush()
    windows.refresh_location(location_id, [holiday.day])
    audit.touch("holiday", holiday_id)
