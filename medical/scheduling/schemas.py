"""Wire shapes of appointment types, availabilities, slots and appointments."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, field

from medical.people.rooms import DeviceKind
from medical.platform.errors import FieldProblem
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Instant, LongText, Output, Text, Version
from medical.platform.zones import TimeZone
from medical.scheduling.models import Appointment, AppointmentEvent, AppointmentType, Availability, Hold, Status
from medical.scheduling.waitlist_models import Waiting, WaitlistEntry

Minutes = Annotated[int, Meta(ge=1, le=1440)]
Buffer = Annotated[int, Meta(ge=0, le=240)]


def distinct(what: str) -> dict[str, Callable[[list[Any]], str | None]]:
    """The check that a list names nothing twice; ``what`` it names."""
    return {"check": lambda values: f"names {what} twice" if len(set(values)) < len(values) else None}


DeviceKinds = Annotated[list[DeviceKind], Meta(max_length=5, extra=distinct("a kind"))]


Durations = Annotated[list[Minutes], Meta(max_length=10, extra=distinct("a duration"))]


Weekdays = Annotated[
    list[Annotated[int, Meta(ge=1, le=7)]],
    Meta(min_length=1, max_length=7, description="Monday is 1.", extra=distinct("a day")),
]
LocalTime = Annotated[
    str,
    Meta(
        pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$",
        description="Wall-clock time, `HH:MM`.",
        examples=["09:00"],
    ),
]
EveryWeeks = Annotated[int, Meta(ge=1, le=52)]
Most = Annotated[int, Meta(ge=1, le=1000)]
WEEKS_OF_MONTH = (1, 2, 3, 4, 5, -1)


def _weeks_problem(weeks: list[int]) -> str | None:
    if set(weeks) - set(WEEKS_OF_MONTH):
        return "must hold 1 to 5, or -1 for the last"
    return "names a week twice" if len(set(weeks)) < len(weeks) else None


WeeksOfMonth = Annotated[
    list[Annotated[int, Meta(ge=-1, le=5)]],
    Meta(
        min_length=1,
        max_length=len(WEEKS_OF_MONTH),
        description="1: the first such weekday of its month, -1: the last.",
        examples=[[1, 3]],
        extra={"check": _weeks_problem},
    ),
]
TypeIds = Annotated[list[UUID], Meta(min_length=1, max_length=100)]


class CreateAppointmentType(Input, frozen=True, kw_only=True):
    """A kind of visit; possible starts lie every `grid_minutes` from the start of each opening.

    Nearer to the start than `cancellation_cutoff_minutes`, only staff cancel or move it. What `needs_approval`
    is requested first. `max_per_day` counts those of one clinician on one local day, `max_per_patient` those
    that one patient has ahead.

    Buffers keep clinician, room and devices free before and after it; they need not lie within anybody's hours.
    It may last one of `other_durations_minutes` where whoever books says so. With a `group_capacity`, so many
    patients come to one visit.
    """

    name: Text
    duration_minutes: Minutes
    grid_minutes: Minutes | None = None
    min_notice_minutes: Annotated[int, Meta(ge=0, le=525600)] = 0
    horizon_days: Annotated[int, Meta(ge=1, le=550)] = 365
    cancellation_cutoff_minutes: Annotated[int, Meta(ge=0, le=525600)] = 0
    needs_approval: bool = False
    max_per_day: Most | None = None
    max_per_patient: Most | None = None
    buffer_before_minutes: Buffer = 0
    buffer_after_minutes: Buffer = 0
    needs_room: bool = False
    needs_device_kinds: DeviceKinds = field(default_factory=list)
    other_durations_minutes: Durations = field(default_factory=list)
    group_capacity: Annotated[int, Meta(ge=2, le=1000)] | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.duration_minutes in self.other_durations_minutes:
            yield FieldProblem("/other_durations_minutes", "holds the usual duration; name others only")


class AppointmentTypeOut(Output, frozen=True, kw_only=True):
    """A kind of visit."""

    id: UUID
    name: str
    duration_minutes: int
    grid_minutes: int
    min_notice_minutes: int
    horizon_days: int
    cancellation_cutoff_minutes: int
    needs_approval: bool
    max_per_day: int | None
    max_per_patient: int | None
    buffer_before_minutes: int
    buffer_after_minutes: int
    needs_room: bool
    needs_device_kinds: list[str]
    other_durations_minutes: list[int]
    group_capacity: int | None
    version: Version

    @classmethod
    def of(cls, kind: AppointmentType) -> "AppointmentTypeOut":
        """The kind of visit as callers see it."""
        return cls(**{name: getattr(kind, name) for name in cls.__struct_fields__})


def _validity_problems(valid_from: Any, valid_until: Any) -> Iterator[FieldProblem]:
    if isinstance(valid_from, date) and isinstance(valid_until, date) and valid_until < valid_from:
        yield FieldProblem("/valid_until", "lies before valid_from")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("start_time", "end_time"):
        if isinstance(values.get(name), str):
            values[name] = time.fromisoformat(values[name])
    return values


class CreateAvailability(Input, frozen=True, kw_only=True):
    """Weekly hours in local wall time; an end at or before the start is of the next day.

    Zone and location are the clinician's unless given.
    """

    clinician_id: UUID
    weekdays: Weekdays
    start_time: LocalTime
    end_time: LocalTime
    time_zone: TimeZone | None = None
    location_id: UUID | None = None
    valid_from: date | None = None
    valid_until: date | None = None
    every_weeks: EveryWeeks = 1
    weeks_of_month: WeeksOfMonth | None = None
    appointment_type_ids: TypeIds | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        yield from _validity_problems(self.valid_from, self.valid_until)

    def arguments(self) -> dict[str, Any]:
        """The fields by name, as plain values."""
        return _plain(super().arguments())


class UpdateAvailability(Input, frozen=True, kw_only=True):
    """Changed fields of weekly hours; null removes a value that may be absent."""

    weekdays: Weekdays | UnsetType = UNSET
    start_time: LocalTime | UnsetType = UNSET
    end_time: LocalTime | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET
    location_id: UUID | UnsetType | None = UNSET
    valid_from: date | UnsetType | None = UNSET
    valid_until: date | UnsetType | None = UNSET
    every_weeks: EveryWeeks | UnsetType = UNSET
    weeks_of_month: WeeksOfMonth | UnsetType | None = UNSET
    appointment_type_ids: TypeIds | UnsetType | None = UNSET

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        yield from _validity_problems(self.valid_from, self.valid_until)

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, as plain values."""
        return _plain(super().given())


class AvailabilityQuery(PageQuery, frozen=True, kw_only=True):
    """Whose hours."""

    clinician_id: UUID | None = None


class AvailabilityOut(Output, frozen=True, kw_only=True):
    """Weekly hours."""

    id: UUID
    clinician_id: UUID
    weekdays: list[int]
    start_time: LocalTime
    end_time: LocalTime
    time_zone: str
    location_id: UUID | None
    valid_from: date | None
    valid_until: date | None
    every_weeks: int
    weeks_of_month: list[int] | None
    first_week_on: Annotated[date, Meta(description="Monday of a week in which the hours hold, for every_weeks.")]
    appointment_type_ids: list[UUID] | None
    version: Version

    @classmethod
    def of(cls, availability: Availability) -> "AvailabilityOut":
        """The hours as callers see them."""
        values = {name: getattr(availability, name) for name in cls.__struct_fields__}
        for name in ("start_time", "end_time"):
            values[name] = f"{values[name]:%H:%M}"
        return cls(**values)


MOST_OTHERS = 5
"""So many clinicians take part in a visit beside the one whose it is."""


class SlotQuery(PageQuery, frozen=True, kw_only=True):
    """Free times of a type that start in [from, to); of some clinicians, or a specialty, or everybody.

    Only times at which all of `with_clinician_id` are free too, at the same site.
    """

    appointment_type_id: UUID
    start: Instant = field(name="from")
    until: Instant = field(name="to")
    clinician_id: Annotated[list[UUID], Meta(max_length=100)] | None = None
    specialty: Text | None = None
    location_id: UUID | None = None
    duration_minutes: Minutes | None = None
    with_clinician_id: Annotated[list[UUID], Meta(max_length=MOST_OTHERS)] | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.until <= self.start:
            yield FieldProblem("/to", "must lie after from")


class SlotOut(Output, frozen=True, kw_only=True):
    """A free time; it can be booked as long as nothing changes."""

    clinician_id: UUID
    location_id: UUID | None
    start: Instant
    end: Instant


def _minute_problem(instant: datetime) -> str | None:
    return "must be a whole minute" if instant.second or instant.microsecond else None


Minute = Annotated[Instant, Meta(extra={"check": _minute_problem})]


WithClinicians = Annotated[list[UUID], Meta(max_length=MOST_OTHERS, extra=distinct("somebody"))]


class BookAppointment(Input, frozen=True, kw_only=True):
    """A time for a patient with a clinician, or with the fairest free clinician of a `specialty`.

    The place matters only where hours at two sites overlap. A `sensitive` visit is not shown to who acts for
    the patient, such as a parent. `hold_id` is the caller's hold of just this time. `with_clinician_ids` take part
    too, and see the patient's record as the clinician does.
    """

    patient_id: UUID
    clinician_id: UUID | None = None
    specialty: Text | None = None
    appointment_type_id: UUID
    start: Minute
    location_id: UUID | None = None
    reason: LongText | None = None
    sensitive: bool = False
    hold_id: UUID | None = None
    duration_minutes: Minutes | None = None
    with_clinician_ids: WithClinicians = field(default_factory=list)

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.clinician_id is None and self.specialty is None:
            yield FieldProblem("/clinician_id", "required, unless a specialty is given")
        if self.clinician_id and self.specialty:
            yield FieldProblem("/specialty", "chooses among clinicians; leave it out where one is named")
        if self.hold_id and self.clinician_id is None:
            yield FieldProblem("/hold_id", "is of a time with a clinician; name them")
        if self.clinician_id in self.with_clinician_ids:
            yield FieldProblem("/with_clinician_ids", "names the clinician; name others only")


class OverbookAppointment(Input, frozen=True, kw_only=True):
    """A time with a clinician who may have somebody else then, and why."""

    patient_id: UUID
    clinician_id: UUID
    appointment_type_id: UUID
    start: Minute
    overbook_reason: LongText
    location_id: UUID | None = None
    reason: LongText | None = None
    sensitive: bool = False


class PlaceHold(Input, frozen=True, kw_only=True):
    """A time with a clinician, to be booked in the next minutes."""

    appointment_type_id: UUID
    clinician_id: UUID
    start: Minute
    duration_minutes: Minutes | None = None


class HoldOut(Output, frozen=True, kw_only=True):
    """A hold: until it expires, nobody else can book the time."""

    id: UUID
    status: Literal["held"]
    appointment_type_id: UUID
    clinician_id: UUID
    start: Instant
    end: Instant
    expires_at: Instant

    @classmethod
    def of(cls, hold: Hold) -> "HoldOut":
        """The hold as its holder sees it."""
        return cls(
            id=hold.id,
            status="held",
            appointment_type_id=hold.appointment_type_id,
            clinician_id=hold.clinician_id,
            start=_utc(hold.start_at),
            end=_utc(hold.end_at),
            expires_at=hold.expires_at,
        )


class JoinWaitlist(Input, frozen=True, kw_only=True):
    """A patient waits for a time of a type that starts in [from, to), with some clinicians or any."""

    patient_id: UUID
    appointment_type_id: UUID
    clinician_ids: Annotated[list[UUID], Meta(min_length=1, max_length=20)] | None = None
    starts_from: Instant = field(name="from")
    starts_before: Instant = field(name="to")

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.starts_before <= self.starts_from:
            yield FieldProblem("/to", "must lie after from")


class WaitlistQuery(PageQuery, frozen=True, kw_only=True):
    """Whose entries, and in which state."""

    patient_id: UUID | None = None
    status: Waiting | None = None


class OfferOut(Output, frozen=True, kw_only=True):
    """A time that is kept for the patient until `expires_at`."""

    clinician_id: UUID
    start: Instant
    end: Instant
    expires_at: Instant


class WaitlistEntryOut(Output, frozen=True, kw_only=True):
    """What a patient waits for, and what is offered to them at the moment."""

    id: UUID
    status: Waiting
    patient_id: UUID
    appointment_type_id: UUID
    clinician_ids: list[UUID] | None
    starts_from: Instant = field(name="from")
    starts_before: Instant = field(name="to")
    offer: OfferOut | None
    created_at: Instant
    version: Version

    @classmethod
    def of(cls, entry: WaitlistEntry) -> "WaitlistEntryOut":
        """The entry as callers see it."""
        offer = entry.offer
        return cls(
            id=entry.id,
            status=Waiting(entry.status),
            patient_id=entry.patient_id,
            appointment_type_id=entry.appointment_type_id,
            clinician_ids=entry.clinician_ids,
            starts_from=_utc(entry.starts_from),
            starts_before=_utc(entry.starts_before),
            offer=OfferOut(
                clinician_id=offer.clinician_id, start=offer.start_at, end=offer.end_at, expires_at=offer.expires_at
            )
            if offer
            else None,
            created_at=entry.created_at,
            version=entry.version,
        )


class WithReason(Input, frozen=True, kw_only=True):
    """Why it is done."""

    reason: LongText


class CancelAppointment(Input, frozen=True, kw_only=True):
    """Why it is cancelled."""

    reason: LongText


class RescheduleAppointment(Input, frozen=True, kw_only=True):
    """The new time, and another clinician or place if wanted."""

    start: Minute
    clinician_id: UUID | None = None
    location_id: UUID | None = None
    reason: LongText | None = None


class AppointmentQuery(PageQuery, frozen=True, kw_only=True):
    """Which appointments to list: those that start in [from, to) and fit all that is given."""

    start: Instant | None = field(name="from", default=None)
    until: Instant | None = field(name="to", default=None)
    clinician_id: UUID | None = None
    patient_id: UUID | None = None
    location_id: UUID | None = None
    status: Annotated[list[Status], Meta(max_length=len(Status))] | None = None


class AppointmentOut(Output, frozen=True, kw_only=True):
    """An appointment; `status_reason` says why it was cancelled, moved or overbooked.

    `reason` is null for callers who neither care for the patient nor booked it. `overbooked`: beside another
    one of the clinician's, on purpose. `queue_number` is drawn at check-in, for the place and the local day.
    `with_clinician_ids` take part too; those of one `session_id` meet as a group.
    """

    id: UUID
    status: Status
    patient_id: UUID
    clinician_id: UUID
    appointment_type_id: UUID
    location_id: UUID | None
    start: Instant
    end: Instant
    reason: str | None
    status_reason: str | None
    sensitive: bool
    overbooked: bool
    cancelled_late: bool
    queue_number: int | None
    with_clinician_ids: list[UUID]
    session_id: UUID | None
    series_id: UUID | None
    occurrence: Annotated[int | None, Meta(description="Its number in the series.")]
    version: Version

    @classmethod
    def of(cls, appointment: Appointment) -> "AppointmentOut":
        """The appointment as callers see it."""
        return cls(
            id=appointment.id,
            status=Status(appointment.status),
            patient_id=appointment.patient_id,
            clinician_id=appointment.clinician_id,
            appointment_type_id=appointment.appointment_type_id,
            location_id=appointment.location_id,
            start=_utc(appointment.start_at),
            end=_utc(appointment.end_at),
            reason=appointment.reason if appointment.reason_seen else None,
            status_reason=appointment.status_reason,
            sensitive=appointment.sensitive,
            overbooked=appointment.overbooked,
            cancelled_late=appointment.cancelled_late,
            queue_number=appointment.queue_number,
            with_clinician_ids=appointment.with_clinician_ids or [],
            session_id=appointment.session_id,
            series_id=appointment.series_id,
            occurrence=appointment.occurrence,
            version=appointment.version,
        )


class AppointmentEventOut(Output, frozen=True, kw_only=True):
    """What an appointment became, by whom and why."""

    version: Version
    status: Status
    clinician_id: UUID
    start: Instant
    end: Instant
    reason: str | None
    actor_id: UUID | None
    occurred_at: Instant

    @classmethod
    def of(cls, event: AppointmentEvent) -> "AppointmentEventOut":
        """The event as callers see it."""
        return cls(
            version=event.version,
            status=Status(event.status),
            clinician_id=event.clinician_id,
            start=event.start_at,
            end=event.end_at,
            reason=event.reason if event.reason_seen else None,
            actor_id=event.actor_id,
            occurred_at=event.occurred_at,
        )


def _utc(instant: datetime) -> datetime:
    """The instant as answers show it; a value just taken from a request still has its own offset."""
    return instant.astimezone(UTC)
