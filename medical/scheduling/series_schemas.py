"""Wire shapes of series."""

from collections.abc import Iterator
from datetime import UTC, date
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from medical.platform.errors import FieldProblem
from medical.platform.wire import Input, Instant, LongText, Output, Version
from medical.scheduling.errors import FreeTime, Reason
from medical.scheduling.recurrence import LONGEST, Frequency
from medical.scheduling.schemas import AppointmentOut, Minute
from medical.scheduling.series import Outcome, told
from medical.scheduling.series_models import OnConflict
from medical.scheduling.series_times import Occurrence

OccurrenceNumber = Annotated[int, Meta(ge=1, le=LONGEST)]


class BookSeries(Input, frozen=True, kw_only=True):
    """Times for a patient with a clinician, every `interval` days, weeks or months from `start` on.

    They keep to the wall clock of the clinician's zone; a month that is too short has its occurrence on its last
    day. Either `count` or `until`, the last day, says when it ends. `on_conflict`: if an occurrence cannot be
    booked, none is (`fail`), it is left out (`skip`), or it is left out and free times near it are named (`propose`).
    """

    patient_id: UUID
    clinician_id: UUID
    appointment_type_id: UUID
    start: Minute
    frequency: Frequency
    interval: Annotated[int, Meta(ge=1, le=52)] = 1
    count: Annotated[int, Meta(ge=2, le=LONGEST)] | None = None
    until: date | None = None
    on_conflict: OnConflict = OnConflict.FAIL
    location_id: UUID | None = None
    reason: LongText | None = None
    sensitive: bool = False

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if (self.count is None) == (self.until is None):
            yield FieldProblem("/count", "give either a count or a last day, until")


class RescheduleSeries(Input, frozen=True, kw_only=True):
    """From which occurrence on, and its new time, another clinician, or both."""

    from_occurrence: OccurrenceNumber
    start: Minute | None = None
    clinician_id: UUID | None = None
    location_id: UUID | None = None
    reason: LongText | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.start is None and self.clinician_id is None:
            yield FieldProblem("/start", "required, unless a clinician is given")


class CancelSeries(Input, frozen=True, kw_only=True):
    """From which occurrence on it is cancelled, and why."""

    from_occurrence: OccurrenceNumber
    reason: LongText


class SeriesQuery(Input, frozen=True, kw_only=True):
    """Whether it is only to be told what would come about."""

    dry_run: bool = False


class OccurrenceOut(Output, frozen=True, kw_only=True):
    """An occurrence: its appointment, or why it has none; `proposed` are free times near it, where asked for.

    In a dry run none has an appointment; one without `reasons` would get it, or be moved.
    """

    occurrence: int
    start: Instant
    appointment: AppointmentOut | None
    reasons: list[Reason]
    proposed: list[FreeTime]

    @classmethod
    def of(cls, occurrence: Occurrence, *, dry_run: bool) -> "OccurrenceOut":
        """The occurrence as callers see it."""
        return cls(
            occurrence=occurrence.number,
            start=occurrence.start.astimezone(UTC),
            appointment=None if occurrence.reasons or dry_run else AppointmentOut.of(occurrence.appointment),
            reasons=told(occurrence),
            proposed=list(occurrence.proposed),
        )


class SeriesOut(Output, frozen=True, kw_only=True):
    """A series; an answer to a change has the occurrences that it was about, a read those that have an appointment.

    `id` is null in a dry run of a new one.
    """

    id: UUID | None
    patient_id: UUID
    clinician_id: UUID
    appointment_type_id: UUID
    time_zone: str
    frequency: Frequency
    interval: int
    dry_run: bool
    occurrences: list[OccurrenceOut]
    version: Version

    @classmethod
    def of(cls, outcome: Outcome) -> "SeriesOut":
        """The series as callers see it."""
        series = outcome.series
        return cls(
            id=series.id if outcome.kept else None,
            patient_id=series.patient_id,
            clinician_id=series.clinician_id,
            appointment_type_id=series.appointment_type_id,
            time_zone=series.time_zone,
            frequency=Frequency(series.frequency),
            interval=series.interval,
            dry_run=outcome.dry_run,
            occurrences=[OccurrenceOut.of(occurrence, dry_run=outcome.dry_run) for occurrence in outcome.occurrences],
            version=series.version,
        )
