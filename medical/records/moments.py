"""FHIR's dates as spans of time: a date is the day, a year all of it. Source: https://hl7.org/fhir/R4/search.html#date."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

MOMENT = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?P<fraction>\.\d+)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
Span = tuple[datetime | None, datetime | None]
"""From the first moment to the first one after it; None: open."""


def span_of(text: str) -> tuple[datetime, datetime]:
    """The span that a date, dateTime or instant means, in UTC where it names no zone. Raises ``ValueError``."""
    match = MOMENT.fullmatch(text)
    if not match:
        raise ValueError("must be a date like 2026, 2026-11, 2026-11-27 or 2026-11-27T09:30:00Z")
    year, month, day = (int(match[part] or 1) for part in ("year", "month", "day"))
    if not match["hour"]:
        since = datetime(year, month, day, tzinfo=UTC)
        return since, _following(since, match)
    zone = (match["zone"] or "Z").replace("Z", "+00:00")
    second, fraction = int(match["second"] or 0), float(match["fraction"] or 0)
    whole = datetime.fromisoformat(f"{text[:10]}T{match['hour']}:{match['minute']}:{min(second, 59):02}{zone}")
    since = whole.astimezone(UTC) + timedelta(seconds=fraction + (second == 60))
    if match["fraction"]:
        return since, since + timedelta(microseconds=max(1, round(10 ** (7 - len(match["fraction"])))))
    return since, since + (timedelta(seconds=1) if match["second"] else timedelta(minutes=1))


def _following(since: datetime, match: re.Match[str]) -> datetime:
    """The first moment after a day, a month or a year; the end of the calendar has none."""
    try:
        if match["day"]:
            return since + timedelta(days=1)
        if match["month"] and since.month < 12:
            return since.replace(month=since.month + 1)
        return since.replace(year=since.year + 1, month=1)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


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
