"""Wire shapes of one-off openings, time off, holidays and explanations."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, field

from medical.platform.errors import FieldProblem
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Instant, LongText, Output, Text
from medical.scheduling.errors import FreeTime
from medical.scheduling.explain import Explanation
from medical.scheduling.holiday_calendar import countries
from medical.scheduling.hours_models import AvailabilityException, Holiday, HolidayCalendar
from medical.scheduling.schemas import AppointmentOut, Minute, Minutes, TypeIds
from medical.scheduling.time_offs import Decided, Decision, Taken

LONGEST_OPENING = timedelta(hours=24)
LONGEST_TIME_OFF = timedelta(days=400)
MOST_DECISIONS = 200
EARLIEST_DAY, LATEST_DAY = date(1900, 1, 1), date(2200, 12, 31)


def _span_problems(start: Minute, end: Minute, longest: timedelta) -> Iterator[FieldProblem]:
    if end <= start:
        yield FieldProblem("/end", "must lie after start")
    elif end - start > longest:
        yield FieldProblem("/end", f"lies more than {longest // timedelta(hours=1)} hours after start")


class CreateOpening(Input, frozen=True, kw_only=True):
    """A time in which a clinician can be booked beside their weekly hours; at their site unless another is given."""

    clinician_id: UUID
    start: Minute
    end: Minute
    location_id: UUID | None = None
    appointment_type_ids: TypeIds | None = None
    reason: LongText | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        yield from _span_problems(self.start, self.end, LONGEST_OPENING)


class DecideAppointment(Input, frozen=True, kw_only=True):
    """What is to become of an appointment that time off hits: kept, moved or cancelled.

    To be moved it needs a new `start`, another clinician, or both; to be cancelled, a `reason`. With a `version` that
    is no longer the present one it is refused.
    """

    appointment_id: UUID
    action: Decided
    start: Minute | None = None
    clinician_id: UUID | None = None
    location_id: UUID | None = None
    reason: LongText | None = None
    version: Annotated[int, Meta(ge=1)] | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.action is Decided.MOVE and self.start is None and self.clinician_id is None:
            yield FieldProblem("/start", "required for a move, unless a clinician is given")
        if self.action is Decided.CANCEL and self.reason is None:
            yield FieldProblem("/reason", "required to cancel")
        if self.action is not Decided.MOVE:
            for name in ("start", "clinician_id", "location_id"):
                if getattr(self, name) is not None:
                    yield FieldProblem(f"/{name}", "is for moves")


class CreateTimeOff(Input, frozen=True, kw_only=True):
    """A time in which a clinician cannot be booked, and what becomes of appointments that it hits; others are kept."""

    clinician_id: UUID
    start: Minute
    end: Minute
    reason: LongText | None = None
    decisions: Annotated[list[DecideAppointment], Meta(max_length=MOST_DECISIONS)] = field(default_factory=list)

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        yield from _span_problems(self.start, self.end, LONGEST_TIME_OFF)
        seen: set[UUID] = set()
        for n, decision in enumerate(self.decisions):
            for problem in decision.problems():
                yield FieldProblem(f"/decisions/{n}{problem.pointer}", problem.message)
            if decision.appointment_id in seen:
                yield FieldProblem(f"/decisions/{n}/appointment_id", "is decided twice")
            seen.add(decision.appointment_id)

    def arguments(self) -> dict[str, Any]:
        """The fields by name, decisions as the service takes them."""
        return super().arguments() | {"decisions": [Decision(**one.arguments()) for one in self.decisions]}


class TimeOffQuery(Input, frozen=True, kw_only=True):
    """Whether it is only to be told what the time off would hit, and where that could be instead."""

    dry_run: bool = False


class ExceptionQuery(PageQuery, frozen=True, kw_only=True):
    """Whose, and which touch [from, to)."""

    clinician_id: UUID | None = None
    start: Instant | None = field(name="from", default=None)
    until: Instant | None = field(name="to", default=None)

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.start and self.until and self.until <= self.start:
            yield FieldProblem("/to", "must lie after from")


class OpeningOut(Output, frozen=True, kw_only=True):
    """A one-off opening."""

    id: UUID
    clinician_id: UUID
    start: Instant
    end: Instant
    location_id: UUID | None
    appointment_type_ids: list[UUID] | None
    reason: str | None

    @classmethod
    def of(cls, opening: AvailabilityException) -> "OpeningOut":
        """The opening as callers see it."""
        return cls(
            id=opening.id,
            clinician_id=opening.clinician_id,
            start=opening.start_at,
            end=opening.end_at,
            location_id=opening.location_id,
            appointment_type_ids=opening.appointment_type_ids,
            reason=opening.reason,
        )


class TimeOffOut(Output, frozen=True, kw_only=True):
    """Time off."""

    id: UUID
    clinician_id: UUID
    start: Instant
    end: Instant
    reason: str | None

    @classmethod
    def of(cls, time_off: AvailabilityException) -> "TimeOffOut":
        """The time off as callers see it."""
        return cls(
            id=time_off.id,
            clinician_id=time_off.clinician_id,
            start=time_off.start_at,
            end=time_off.end_at,
            reason=time_off.reason,
        )


class AffectedOut(AppointmentOut, frozen=True, kw_only=True):
    """An appointment as it is now, what became of it, and in a dry run free times near it, at most three.

    All could be moved to the first of theirs together.
    """

    action: Decided
    proposed: list[FreeTime]


class TakenTimeOffOut(Output, frozen=True, kw_only=True):
    """Time off, and the appointments it hits: those the caller may see, and how many others, which are kept.

    `id` is null in a dry run.
    """

    id: UUID | None
    clinician_id: UUID
    start: Instant
    end: Instant
    reason: str | None
    dry_run: bool
    affected: list[AffectedOut]
    others_affected: int

    @classmethod
    def of(cls, taken: Taken) -> "TakenTimeOffOut":
        """The time off as callers see it."""
        return cls(
            id=None if taken.dry_run else taken.time_off.id,
            clinician_id=taken.time_off.clinician_id,
            start=taken.time_off.start_at,
            end=taken.time_off.end_at,
            reason=taken.time_off.reason,
            dry_run=taken.dry_run,
            affected=[
                AffectedOut(
                    **msgspec.structs.asdict(AppointmentOut.of(visit)),
                    action=taken.decided.get(visit.id, Decided.KEEP),
                    proposed=[*taken.proposed.get(visit.id, ())],
                )
                for visit in taken.visible
            ],
            others_affected=taken.others,
        )


def _country_problem(country: str) -> str | None:
    return None if country in countries() else "is not a country whose holidays are known"


Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", examples=["DE"], extra={"check": _country_problem})]
Subdivision = Annotated[str, Meta(pattern="^[A-Z0-9]{1,3}$", examples=["BE"])]


class KeepCalendar(Input, frozen=True, kw_only=True):
    """Whose national holidays a site keeps: a country, and a part of it by the latter half of its ISO 3166-2 code."""

    country: Country
    subdivision: Subdivision | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.subdivision and self.subdivision not in countries().get(self.country, ()):
            yield FieldProblem("/subdivision", "is not a part of the country whose holidays are known")


class CalendarOut(Output, frozen=True, kw_only=True):
    """Whose national holidays a site keeps."""

    location_id: UUID
    country: str
    subdivision: str | None

    @classmethod
    def of(cls, calendar: HolidayCalendar) -> "CalendarOut":
        """The calendar as callers see it."""
        return cls(
            location_id=calendar.location_id,
            country=calendar.country,
            subdivision=calendar.subdivision,
        )


def _day_problem(day: date) -> str | None:
    return None if EARLIEST_DAY <= day <= LATEST_DAY else f"must lie between {EARLIEST_DAY} and {LATEST_DAY}"


class AddHoliday(Input, frozen=True, kw_only=True):
    """A day of the site's own; `closed: false` lets it work on a national holiday."""

    day: Annotated[date, Meta(extra={"check": _day_problem})]
    name: Text
    closed: bool = True


class HolidayOut(Output, frozen=True, kw_only=True):
    """A holiday; hours that begin on it are closed, unless an own day says that the site works."""

    id: UUID
    location_id: UUID
    day: date
    name: str
    national: bool
    closed: bool

    @classmethod
    def of(cls, holiday: Holiday) -> "HolidayOut":
        """The holiday as callers see it."""
        return cls(
            id=holiday.id,
            location_id=holiday.location_id,
            day=holiday.day,
            name=holiday.name,
            national=holiday.origin == "national",
            closed=holiday.closed,
        )


class ExplainSlotQuery(Input, frozen=True, kw_only=True):
    """Which time with whom, for which type of appointment, at which site if it matters."""

    clinician_id: UUID
    appointment_type_id: UUID
    start: Minute
    location_id: UUID | None = None
    duration_minutes: Minutes | None = None


class ReasonOut(Output, frozen=True, kw_only=True):
    """One thing that stands in the way; `source_id` names the hours, opening, time off, holiday or appointment."""

    code: str
    detail: str
    source_id: UUID | None
    start: Instant | None
    end: Instant | None
    name: str | None


class SlotExplanationOut(Output, frozen=True, kw_only=True):
    """Whether a time is offered, whether it could be booked (but for the patient's own time), and what is in the way.

    An appointment in the way is named only to who may see it.
    """

    offered: bool
    bookable: bool
    reasons: list[ReasonOut]

    @classmethod
    def of(cls, found: Explanation) -> "SlotExplanationOut":
        """The explanation as callers see it."""
        reasons = [ReasonOut(**msgspec.structs.asdict(reason)) for reason in found.reasons]
        return cls(offered=found.offered, bookable=found.bookable, reasons=reasons)
