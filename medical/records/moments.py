"""FHIR's dates as spans of time: a date is the day, a year all of it. Source: https://hl7.org/fhir/R4/search.html#date."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

MOMENT = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The calendar's ends."""
Span = tuple[datetime | None, datetime | None]
"""From the first moment to the first one after it; None: open."""


def span_of(text: str) -> tuple[datetime, datetime]:
    """The span that a date, dateTime or instant means, in UTC where it names no zone. Raises ``ValueError``.

    What lies beyond the calendar, as the end of its last year does, ends with it.
    """
    match = MOMENT.fullmatch(text)
    if not match:
        raise ValueError("must be a date like 2026, 2026-11, 2026-11-27 or 2026-11-27T09:30:00Z")
    year, month, day = (int(match[part] or 1) for part in ("year", "month", "day"))
    midnight = datetime(year, month, day, tzinfo=UTC)
    if not match["hour"]:
        if match["day"]:
            return midnight, later(midnight, timedelta(days=1))
        return midnight, _month_after(midnight) if match["month"] else _year_after(midnight)
    fraction = match["fraction"] or ""
    seconds = int(match["second"] or 0) + float(fraction or 0)
    at = timedelta(hours=int(match["hour"]), minutes=int(match["minute"]), seconds=seconds) - _offset(match["zone"])
    since = later(midnight, at)
    if fraction:
        return since, later(since, timedelta(microseconds=max(1, round(10 ** (7 - len(fraction))))))
    return since, later(since, timedelta(seconds=1) if match["second"] else timedelta(minutes=1))


def later(moment: datetime, by: timedelta) -> datetime:
    """The moment so much later, or earlier; at most the first or last of the calendar."""
    try:
        return moment + by
    except OverflowError:
        return LAST if by > timedelta() else FIRST


def _offset(zone: str | None) -> timedelta:
    if zone in (None, "Z"):
        return timedelta()
    size = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return -size if zone[0] == "-" else size


def _month_after(first: datetime) -> datetime:
    return first.replace(month=first.month + 1) if first.month < 12 else _year_after(first)


def _year_after(first: datetime) -> datetime:
    return first.replace(year=first.year + 1, month=1) if first.year < LAST.year else LAST


def spans(value: Any, type_name: str) -> Iterator[Span]:
    """The spans of a date, a Period or a Timing."""
    if isinstance(value, str):
        yield span_of(value)
    elif type_name == "Period":
        since = span_of(value["start"])[0] if "start" in value else None
        until = span_of(value["end"])[1] if "end" in value else None
        if since or until:
            yield since, until
    elif type_name == "Timing":
        events = [span_of(one) for one in value.get("event", ()) if one]
        if events:
            yield min(since for since, _ in events), max(until for _, until in events)
        elif bounds := value.get("repeat", {}).get("boundsPeriod"):
            yield from spans(bounds, "Period")
