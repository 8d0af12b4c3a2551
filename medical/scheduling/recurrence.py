"""When something that recurs comes about: by the wall clock of one place, whatever its offset from UTC is then."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from medical.platform.zones import local_to_instant

LONGEST = 104
"""Occurrences that a series has at most: two years of weeks."""


class Frequency(StrEnum):
    """What lies between two occurrences, or a number of it; the words of RFC 5545."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


DAYS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7}


def nth(first: datetime, frequency: Frequency, interval: int, number: int) -> datetime:
    """The wall-clock time so many times the interval after ``first``; a month that is too short has it on its last day.

    Counted from the first, not from the one before: after the 28th of February comes the 31st of March again.
    """
    if frequency is not Frequency.MONTHLY:
        return first + timedelta(days=DAYS[frequency] * interval * number)
    years, month = divmod(first.month - 1 + interval * number, 12)
    year, month = first.year + years, month + 1
    return first.replace(year=year, month=month, day=min(first.day, monthrange(year, month)[1]))


def count_until(first: datetime, frequency: Frequency, interval: int, last_day: date) -> int:
    """How many occurrences there are up to the last day; one more than the longest series has, if there are more."""
    for number in range(LONGEST + 1):
        if nth(first, frequency, interval, number).date() > last_day:
            return number
    return LONGEST + 1


def instant_of(start: datetime, zone: str, frequency: Frequency, interval: int, number: int) -> datetime:
    """The instant of the occurrence so many after the one that is at the instant ``start``.

    In a repeated hour ``start`` says itself which of the two it means; the others mean the first.
    """
    if number == 0:
        return start.astimezone(UTC)
    return local_to_instant(nth(wall_clock(start, zone), frequency, interval, number), zone)


def wall_clock(start: datetime, zone: str) -> datetime:
    """What the clock shows in ``zone`` at this instant."""
    return start.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
