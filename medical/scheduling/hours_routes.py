"""One-off openings, time off and holidays over HTTP."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor
from medical.scheduling import explain as explanations
from medical.scheduling import holiday_calendar, one_offs
from medical.scheduling import time_offs as planner
from medical.scheduling.errors import DecisionsRefused, HolidayExists, NationalHoliday, NotYourDiary
from medical.scheduling.hours_models import AvailabilityException
from medical.scheduling.hours_schemas import (
    AddHoliday,
    CalendarOut,
    CreateOpening,
    CreateTimeOff,
    ExceptionQuery,
    ExplainSlotQuery,
    HolidayOut,
    KeepCalendar,
    OpeningOut,
    SlotExplanationOut,
    TakenTimeOffOut,
    TimeOffOut,
    TimeOffQuery,
)
from medical.scheduling.one_offs import Kind
from medical.scheduling.permissions import Permission

openings = Blueprint("openings", __name__, url_prefix="/api/v1/openings")
time_offs = Blueprint("time-offs", __name__, url_prefix="/api/v1/time-offs")
explained = Blueprint("slot-explanations", __name__, url_prefix="/api/v1/slots")
holidays = Blueprint("holidays", __name__, url_prefix="/api/v1/locations/<uuid:location_id>")


@endpoint(
    openings.post(""),
    permission=Permission.AVAILABILITY_EDIT,
    body=CreateOpening,
    returns=(201, OpeningOut),
    errors=[NotFound, NotYourDiary],
    audit=Action.OPENING_CREATED,
    idempotent=True,
)
def create_opening(body: CreateOpening) -> OpeningOut:
    """Open a clinician's diary once, beside the weekly hours, on holidays too."""
    return OpeningOut.of(one_offs.open_once(current_actor(), **body.arguments()))


@endpoint(
    openings.get(""),
    permission=Permission.AVAILABILITY_READ,
    query=ExceptionQuery,
    returns=(200, Page[OpeningOut]),
)
def list_openings(query: ExceptionQuery) -> Page[OpeningOut]:
    """List one-off openings, ordered by start, id."""
    rows = _found(Kind.OPEN, query)
    return page_of(rows, query.limit, OpeningOut.of, lambda one: (one.start_at, one.id))


@endpoint(
    openings.get("/<uuid:opening_id>"),
    permission=Permission.AVAILABILITY_READ,
    returns=(200, OpeningOut),
)
def get_opening(opening_id: UUID) -> OpeningOut:
    """Read a one-off opening."""
    return OpeningOut.of(one_offs.get(Kind.OPEN, opening_id))


@endpoint(
    openings.delete("/<uuid:opening_id>"),
    permission=Permission.AVAILABILITY_EDIT,
    returns=(204, None),
    errors=[NotYourDiary],
    audit=Action.OPENING_DELETED,
)
def delete_opening(opening_id: UUID) -> None:
    """Take a one-off opening back; what is booked stays booked."""
    one_offs.remove(current_actor(), Kind.OPEN, opening_id)


@endpoint(
    time_offs.post(""),
    permission=Permission.AVAILABILITY_EDIT,
    body=CreateTimeOff,
    query=TimeOffQuery,
    returns=(201, TakenTimeOffOut),
    errors=[NotFound, NotYourDiary, DecisionsRefused],
    audit=Action.TIME_OFF_CREATED,
    idempotent=True,
)
def take_time_off(body: CreateTimeOff, query: TimeOffQuery) -> TakenTimeOffOut:
    """Close a clinician's diary for a time, and move or cancel what it hits as `decisions` tell, all or nothing.

    What nothing is decided of is kept, and named in the answer. `dry_run` changes nothing: it names what would be hit,
    each with free times that it could be moved to.
    """
    actor, given = current_actor(), body.arguments()
    return TakenTimeOffOut.of(planner.look(actor, **given) if query.dry_run else planner.take(actor, **given))


@endpoint(
    time_offs.get(""),
    permission=Permission.AVAILABILITY_READ,
    query=ExceptionQuery,
    returns=(200, Page[TimeOffOut]),
)
def list_time_offs(query: ExceptionQuery) -> Page[TimeOffOut]:
    """List time off, ordered by start, id."""
    rows = _found(Kind.CLOSED, query)
    return page_of(rows, query.limit, TimeOffOut.of, lambda one: (one.start_at, one.id))


@endpoint(
    time_offs.get("/<uuid:time_off_id>"),
    permission=Permission.AVAILABILITY_READ,
    returns=(200, TimeOffOut),
)
def get_time_off(time_off_id: UUID) -> TimeOffOut:
    """Read time off."""
    return TimeOffOut.of(one_offs.get(Kind.CLOSED, time_off_id))


@endpoint(
    time_offs.delete("/<uuid:time_off_id>"),
    permission=Permission.AVAILABILITY_EDIT,
    returns=(204, None),
    errors=[NotYourDiary],
    audit=Action.TIME_OFF_DELETED,
)
def delete_time_off(time_off_id: UUID) -> None:
    """Take time off back: the hours of that time are open again."""
    one_offs.remove(current_actor(), Kind.CLOSED, time_off_id)


def _found(kind: Kind, query: ExceptionQuery) -> Sequence[AvailabilityException]:
    return one_offs.find(
        kind,
        clinician_id=query.clinician_id,
        start=query.start,
        until=query.until,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )


@endpoint(
    holidays.put("/holiday-calendar"),
    permission=Permission.HOLIDAY_EDIT,
    body=KeepCalendar,
    returns=(200, CalendarOut),
    errors=[NotFound],
    audit=Action.HOLIDAY_CALENDAR_SET,
)
def keep_calendar(location_id: UUID, body: KeepCalendar) -> CalendarOut:
    """Let a site keep the national holidays of a country, or of a part of it."""
    return CalendarOut.of(holiday_calendar.keep_calendar(location_id, body.country, body.subdivision))


@endpoint(
    holidays.get("/holiday-calendar"),
    permission=Permission.HOLIDAY_READ,
    returns=(200, CalendarOut),
)
def get_calendar(location_id: UUID) -> CalendarOut:
    """Whose national holidays a site keeps; 404 where it keeps none."""
    return CalendarOut.of(holiday_calendar.get_calendar(location_id))


@endpoint(
    holidays.delete("/holiday-calendar"),
    permission=Permission.HOLIDAY_EDIT,
    returns=(204, None),
    audit=Action.HOLIDAY_CALENDAR_REMOVED,
)
def drop_calendar(location_id: UUID) -> None:
    """Let a site keep no national holidays any more."""
    holiday_calendar.drop_calendar(location_id)


@endpoint(
    holidays.post("/holidays"),
    permission=Permission.HOLIDAY_EDIT,
    body=AddHoliday,
    returns=(201, HolidayOut),
    errors=[NotFound, HolidayExists],
    audit=Action.HOLIDAY_ADDED,
    idempotent=True,
)
def add_holiday(location_id: UUID, body: AddHoliday) -> HolidayOut:
    """Close a site for a day, or let it work on a national holiday; what is booked stays booked."""
    return HolidayOut.of(holiday_calendar.add_day(location_id, **body.arguments()))


@endpoint(
    holidays.get("/holidays"),
    permission=Permission.HOLIDAY_READ,
    query=PageQuery,
    returns=(200, Page[HolidayOut]),
    errors=[NotFound],
)
def list_holidays(location_id: UUID, query: PageQuery) -> Page[HolidayOut]:
    """List a site's holidays, national ones as far as diaries are open; ordered by day, then national before own."""
    rows = holiday_calendar.list_days(location_id, query.limit, read_cursor(query.cursor, tuple[date, str]))
    return page_of(rows, query.limit, HolidayOut.of, lambda one: (one.day, one.origin))


@endpoint(
    holidays.get("/holidays/<uuid:holiday_id>"),
    permission=Permission.HOLIDAY_READ,
    returns=(200, HolidayOut),
)
def get_holiday(location_id: UUID, holiday_id: UUID) -> HolidayOut:
    """Read a holiday of a site."""
    return HolidayOut.of(holiday_calendar.get_day(location_id, holiday_id))


@endpoint(
    holidays.delete("/holidays/<uuid:holiday_id>"),
    permission=Permission.HOLIDAY_EDIT,
    returns=(204, None),
    errors=[NationalHoliday],
    audit=Action.HOLIDAY_REMOVED,
)
def remove_holiday(location_id: UUID, holiday_id: UUID) -> None:
    """Take a day of the site's own back."""
    holiday_calendar.remove_day(location_id, holiday_id)


@endpoint(
    explained.get("/explain"),
    permission=Permission.AVAILABILITY_READ,
    query=ExplainSlotQuery,
    returns=(200, SlotExplanationOut),
    errors=[NotFound, NotYourDiary],
)
def explain(query: ExplainSlotQuery) -> SlotExplanationOut:
    """Why a time with a clinician is offered or not: closed by what, booked, too soon, no room."""
    return SlotExplanationOut.of(explanations.explain(current_actor(), **query.arguments()))
