"""Appointments as a calendar (iCalendar, RFC 5545): when somebody is busy, and no more than that unless told."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from medical.scheduling.models import Appointment, Status

if TYPE_CHECKING:  # at run time it is imported late: memory in every process, and seldom needed
    from icalendar import Event, Timezone

PRODUCT = "-//Medical Backend//Calendar feed//EN"
REFRESH = timedelta(minutes=30)
"""So often a calendar program is asked to look again (RFC 7986)."""
WORDS = {
    Status.REQUESTED: "TENTATIVE",
    Status.CANCELLED: "CANCELLED",
    Status.ENTERED_IN_ERROR: "CANCELLED",
}
"""What a calendar calls a status; everything else is CONFIRMED."""


class Entry(NamedTuple):
    """An appointment, what may be told of it, where it is, and when it was last changed."""

    appointment: Appointment
    summary: str | None
    site: str | None
    changed_at: datetime


def calendar(entries: Sequence[Entry]) -> bytes:
    """The calendar, with every zone that it speaks of; the same entries give the same bytes."""
    from icalendar import Calendar

    made = Calendar()
    made.add("prodid", PRODUCT)
    made.add("version", "2.0")
    made.add("method", "PUBLISH")
    made.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    for zone in _zones(entries):
        made.add_component(zone)
    seen = set()
    for entry in entries:
        session = entry.appointment.session_id
        if session is None or session not in seen:  # a group meets once, however many come
            made.add_component(_event(entry))
        seen.add(session)
    return bytes(made.to_ical())


def _zones(entries: Sequence[Entry]) -> "Iterator[Timezone]":
    """The zones of the entries; UTC is written without."""
    from icalendar import Timezone

    if not entries:
        return
    first, last = (entries[place].appointment.start_at.year for place in (0, -1))
    for name in sorted({entry.appointment.time_zone for entry in entries} - {"UTC"}):
        yield Timezone.from_tzid(name, first_date=date(first, 1, 1), last_date=date(last + 1, 12, 31))


def _event(entry: Entry) -> "Event":
    from icalendar import Event

    visit, zone = entry.appointment, ZoneInfo(entry.appointment.time_zone)
    status = WORDS.get(Status(visit.status), "CONFIRMED")
    event = Event()
    event.add("uid", str(visit.session_id or visit.id))
    event.add("sequence", 0 if visit.session_id else visit.version - 1)
    event.add("dtstamp", entry.changed_at)
    event.add("last-modified", entry.changed_at)
    event.add("dtstart", visit.start_at.astimezone(zone))
    event.add("dtend", visit.end_at.astimezone(zone))
    event.add("summary", entry.summary or "Busy")
    if entry.summary and entry.site:
        event.add("location", entry.site)
    event.add("class", "PRIVATE")
    event.add("status", status)
    event.add("transp", "TRANSPARENT" if status == "CANCELLED" else "OPAQUE")
    return event
