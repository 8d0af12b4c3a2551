"""A diary written straight into the database, so that a test may choose the present moment, and its oracle.

Nothing of it is committed. The oracle is plain Python over minutes, and shares no code with the program.
"""

from calendar import monthrange
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from unittest import mock
from uuid import UUID
from zoneinfo import ZoneInfo

from medical.identity.models import RoleGrant, User
from medical.identity.permissions import Role
from medical.people.models import Clinician, Location, Patient
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import Scope, db, scope_organization, scoped
from medical.platform.errors import Conflict
from medical.platform.ids import new_id
from medical.scheduling import booking, slots, windows
from medical.scheduling.hours_models import AvailabilityException, Holiday
from medical.scheduling.models import Allocation, Appointment, AppointmentType, Availability
from tests.clinic import Clinic, numbers

EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def utc(text: str) -> datetime:
    """An instant, written as its UTC reading."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def readings(starts: Sequence[datetime], zone: str) -> list[str]:
    """The instants as a wall clock shows them, with its offset from UTC."""
    return [start.astimezone(ZoneInfo(zone)).strftime("%a %H:%M%z") for start in starts]


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Weekly hours."""

    start: str = "09:00"
    end: str = "17:00"
    zone: str = "Europe/Berlin"
    weekdays: tuple[int, ...] = EVERY_DAY
    location_id: UUID | None = None
    valid_from: date | None = None
    valid_until: date | None = None
    every_weeks: int = 1
    weeks_of_month: tuple[int, ...] | None = None
    first_week_on: date = date(2000, 1, 3)
    appointment_type_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of visit."""

    id: UUID
    minutes: int = 30
    grid: int = 30
    notice: int = 0
    horizon: int = 550
    before: int = 0
    after: int = 0
    needs_room: bool = False
    needs: tuple[str, ...] = ()


class Diary:
    """What stands in the database during one test."""

    def __init__(self) -> None:
        self._clinicians: list[UUID] = []

    def clinician(self, *hours: Hours, zone: str = "Europe/Berlin", specialty: str = "Cardiology") -> UUID:
        """A clinician with these hours."""
        user = User(
            id=new_id(), email=f"diary{next(numbers)}.{new_id().hex}@example.org", given_name="A", family_name="B"
        )
        db.session.add(user)
        db.session.flush()
        db.session.add(RoleGrant(user_id=user.id, role=Role.CLINICIAN))
        db.session.add(Clinician(id=user.id, specialty=specialty, time_zone=zone, user=user))
        db.session.flush()
        self._clinicians.append(user.id)
        self.works(user.id, *hours)
        return user.id

    def keep(self, start: datetime, until: datetime, now: datetime) -> None:
        """The open windows of the days around [start, until) are as upkeep at the moment ``now`` makes them."""
        days = [day for day in windows.kept(now) if start.date() - 3 * DAY <= day <= until.date() + 3 * DAY]
        windows.refresh(self._clinicians, days)

    def works(self, clinician_id: UUID, *hours: Hours) -> None:
        """Add hours."""
        for one in hours:
            db.session.add(
                Availability(
                    clinician_id=clinician_id,
                    weekdays=list(one.weekdays),
                    start_time=time.fromisoformat(one.start),
                    end_time=time.fromisoformat(one.end),
                    time_zone=one.zone,
                    location_id=one.location_id,
                    valid_from=one.valid_from,
                    valid_until=one.valid_until,
                    every_weeks=one.every_weeks,
                    weeks_of_month=list(one.weeks_of_month) if one.weeks_of_month else None,
                    first_week_on=one.first_week_on,
                    appointment_type_ids=list(one.appointment_type_ids) if one.appointment_type_ids else None,
                )
            )
        db.session.flush()

    def location(self) -> UUID:
        """A site."""
        site = Location(id=new_id(), name=f"Site {next(numbers)} {new_id()}", time_zone="UTC")
        db.session.add(site)
        db.session.flush()
        return site.id

    def patient(self) -> UUID:
        """A patient."""
        patient = Patient(id=new_id(), given_name="Pat", family_name="Case", birth_date=date(1980, 5, 17), sex="female")
        db.session.add(patient)
        db.session.flush()
        return patient.id

    def kind(self, **given: Any) -> Kind:
        """A kind of visit."""
        kind = Kind(id=new_id(), **given)
        row = AppointmentType(
            id=kind.id,
            name=f"Visit {kind.id}",
            duration_minutes=kind.minutes,
            grid_minutes=kind.grid,
            min_notice_minutes=kind.notice,
            horizon_days=kind.horizon,
            buffer_before_minutes=kind.before,
            buffer_after_minutes=kind.after,
            needs_room=kind.needs_room,
            needs_device_kinds=list(kind.needs),
        )
        db.session.add(row)
        db.session.flush()
        return kind

    def taken(self, clinician_id: UUID, start: datetime, minutes: int = 30) -> None:
        """The clinician's time is claimed for something else."""
        db.session.add(
            Allocation(
                bookable_id=clinician_id,
                kind="clinician",
                start_at=start,
                end_at=start + minutes * MINUTE,
                appointment_id=new_id(),
            )
        )
        db.session.flush()

    def exception(self, clinician_id: UUID, kind: str, start: datetime, minutes: int) -> None:
        """A one-off opening (``open``) or time off (``closed``)."""
        db.session.add(
            AvailabilityException(
                clinician_id=clinician_id,
                kind=kind,
                start_at=start,
                end_at=start + minutes * MINUTE,
                local_day=start.date(),
                time_zone="UTC",
            )
        )
        db.session.flush()

    def closed(self, location_id: UUID, day: date) -> None:
        """The site is closed on this day."""
        db.session.add(Holiday(location_id=location_id, day=day, name="Outing", origin="own", closed=True))
        db.session.flush()

    def search(
        self,
        kind: Kind,
        start: datetime,
        until: datetime,
        *clinician_ids: UUID,
        now: datetime | None = None,
        limit: int = 100_000,
        **given: Any,
    ) -> Sequence[slots.Slot]:
        """Free times at the moment ``now``; by default the day before."""
        after = given.pop("after", None)
        self.keep(start, until, now or start - DAY)
        found = slots.search(
            appointment_type_id=kind.id,
            start=start,
            until=until,
            clinician_ids=clinician_ids or None,
            specialty=given.get("specialty"),
            location_id=given.get("location_id"),
            now=now or start - DAY,
            limit=limit,
            after=after,
        )
        assert found is not None
        return found

    def starts(
        self, kind: Kind, start: datetime, until: datetime, *clinician_ids: UUID, **given: Any
    ) -> list[datetime]:
        """The starts of free times, at whoever's clock."""
        return [slot.start.astimezone(UTC) for slot in self.search(kind, start, until, *clinician_ids, **given)]

    def book(self, patient_id: UUID, clinician_id: UUID, kind: Kind, start: datetime, now: datetime) -> Appointment:
        """Book at the moment ``now``, as the desk."""
        self.keep(start, start, now)
        with mock.patch.object(clock, "now", return_value=now):
            return booking.book(
                desk(),
                patient_id=patient_id,
                clinician_id=clinician_id,
                appointment_type_id=kind.id,
                start=start,
                reason=None,
            )

    def can_book(self, patient_id: UUID, clinician_id: UUID, kind: Kind, start: datetime, now: datetime) -> bool:
        """Whether a booking would go through; nothing of it stays."""
        savepoint = db.session.begin_nested()
        try:
            self.book(patient_id, clinician_id, kind, start, now)
        except Conflict:
            return False
        finally:
            savepoint.rollback()
        return True


def desk() -> Actor:
    """Somebody at the desk."""
    organization_id = scope_organization()
    assert organization_id is not None
    return Actor(
        user_id=new_id(),
        organization_id=organization_id,
        session_id=None,
        email="desk@example.org",
        roles=frozenset({Role.RECEPTIONIST}),
        authenticated_at=clock.now(),
    )


@contextmanager
def open_diary(clinic: Clinic) -> Iterator[Diary]:
    """A diary in this clinic that is forgotten afterwards."""
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        try:
            yield Diary()
        finally:
            db.session.rollback()


class Oracle:
    """One clinician's diary over minutes: slow, obvious, and independent of the program."""

    def __init__(
        self,
        zone: str,
        hours: Sequence[Hours],
        taken: Sequence[tuple[datetime, int]] = (),
        off: Sequence[tuple[datetime, int]] = (),
        once: Sequence[tuple[datetime, int]] = (),
        closed_days: Collection[date] = (),
    ) -> None:
        """``off`` is time off, ``once`` are one-off openings, both as start and minutes."""
        self.zone, self.hours, self.once, self.closed_days = ZoneInfo(zone), hours, once, closed_days
        self.taken = {start + n * MINUTE for start, minutes in taken for n in range(minutes)}
        self.off = {start + n * MINUTE for start, minutes in off for n in range(minutes)}

    def openings(
        self, kind: Kind, start: datetime, until: datetime
    ) -> Iterator[tuple[UUID | None, datetime, datetime]]:
        """Every opening that begins on a day near [start, until), and the one-off ones."""
        yield from ((None, begins, begins + minutes * MINUTE) for begins, minutes in self.once)
        for one in self.hours:
            if one.appointment_type_ids and kind.id not in one.appointment_type_ids:
                continue
            day = start.date() - timedelta(days=4)
            while day <= until.date() + timedelta(days=4):
                if self._works(one, day):
                    begins, ends = time.fromisoformat(one.start), time.fromisoformat(one.end)
                    last = day if ends > begins else day + timedelta(days=1)
                    yield one.location_id, _instant(day, begins, one.zone), _instant(last, ends, one.zone)
                day += timedelta(days=1)

    def _works(self, hours: Hours, day: date) -> bool:
        weeks = (day - hours.first_week_on).days // 7
        midnight = _instant(day, time(), hours.zone)
        return (
            day.isoweekday() in hours.weekdays
            and weeks % hours.every_weeks == 0
            and (hours.weeks_of_month is None or _is_in_weeks(day, hours.weeks_of_month))
            and not (hours.location_id and day in self.closed_days)
            and (hours.valid_from is None or day >= hours.valid_from)
            and (hours.valid_until is None or day <= hours.valid_until)
            and _instant(day + timedelta(days=1), time(), hours.zone) > midnight
        )

    def covers(self, kind: Kind, start: datetime, now: datetime) -> bool:
        """Whether the time may be booked: open in one place throughout, free, and neither too soon nor too late."""
        return bool(self._places(kind, start, now))

    def _places(self, kind: Kind, start: datetime, now: datetime) -> set[UUID | None]:
        """Where the time may be booked."""
        minutes = {start + n * MINUTE for n in range(kind.minutes)}
        claimed = {start + n * MINUTE for n in range(-kind.before, kind.minutes + kind.after)}
        last_day = now.astimezone(self.zone).date() + timedelta(days=kind.horizon)
        if start < now + kind.notice * MINUTE or start.astimezone(self.zone).date() > last_day:
            return set()
        open_at: dict[UUID | None, set[datetime]] = {}
        for location, opens, closes in self.openings(kind, start, start):
            open_at.setdefault(location, set()).update(
                minute for minute in minutes - self.off if opens <= minute and minute + MINUTE <= closes
            )
        return set() if claimed & self.taken else {place for place, open_ in open_at.items() if minutes == open_}

    def starts(self, kind: Kind, start: datetime, until: datetime, now: datetime) -> list[datetime]:
        """Every start on the grid of an opening that may be booked."""
        found = set()
        for location, opens, closes in self.openings(kind, start, until):
            at = opens
            while at < closes:
                if start <= at < until and location in self._places(kind, at, now):
                    found.add(at)
                at += kind.grid * MINUTE
        return sorted(found)


def _is_in_weeks(day: date, weeks: Collection[int]) -> bool:
    """Whether the day is the n-th, or for -1 the last, of its weekday in its month."""
    same = [date(day.year, day.month, n) for n in range(1, monthrange(day.year, day.month)[1] + 1)]
    same = [other for other in same if other.weekday() == day.weekday()]
    return any(week != 0 and len(same) >= abs(week) and same[week - 1 if week > 0 else week] == day for week in weeks)


def _instant(day: date, at: time, zone: str) -> datetime:
    """PEP 495 with fold=0: the first of a repeated hour; a skipped time moves forward by the gap."""
    return datetime.combine(day, at, tzinfo=ZoneInfo(zone)).astimezone(UTC)
