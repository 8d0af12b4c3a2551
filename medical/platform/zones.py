"""Time zones, and local wall-clock times as instants.

`local_to_instant` is the twin of the SQL function of the same name (migration 0003); a test holds
them against each other over every zone.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from msgspec import Meta


@cache
def known_zones() -> frozenset[str]:
    """The names that are accepted: `Area/City` and `UTC`.

    Names like `CET` are refused: PostgreSQL reads them as abbreviations of a fixed offset.
    """
    return frozenset(name for name in available_timezones() if "/" in name) | {"UTC"}


def _zone_problem(name: str) -> str | None:
    return None if name in known_zones() else "is not a known IANA time zone like Europe/Berlin"


TimeZone = Annotated[
    str,
    Meta(
        max_length=64,
        description="IANA name, `Area/City` or `UTC`.",
        examples=["Europe/Berlin"],
        extra={"check": _zone_problem},
    ),
]
"""The name of a time zone."""


def local_to_instant(local: datetime, zone: str) -> datetime:
    """The instant, in UTC, of the naive wall-clock time ``local`` in ``zone``.

    A repeated hour means its first occurrence; a skipped time moves forward by the gap (RFC 5545 3.3.5).
    """
    return local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
