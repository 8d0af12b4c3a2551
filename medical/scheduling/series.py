"""Series of appointments: booked all together, and changed from one of them on.

A dry run does all of it and takes it back: what it tells is what would come about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast
from uuid import UUID

from sqlalchemy import Table, bindparam, update
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from medical.audit import service as audit
from medical.identity.service import ensure_version
from medical.people import service as people
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound
from medical.platform.ids import new_id
from medical.scheduling import booking, claims, policy, queries, recurrence, series_times, service, waitlist
from medical.scheduling.errors import NoneAhead, Reason, RefusedOccurrence, SeriesRefused
from medical.scheduling.models import Appointment, AppointmentType, Status
from medical.scheduling.policy import Act
from medical.scheduling.recurrence import LONGEST, Frequency
from medical.scheduling.series_models import OnConflict, Series
from medical.scheduling.series_times import Occurrence, Search

CHANGED = (
    "clinician_id",
    "location_id",
    "start_at",
    "end_at",
    "time_zone",
    "local_start",
    "status",
    "status_reason",
    "overbooked",
    "cancelled_late",
)
"""What a change of a series may set in its appointments."""
APPOINTMENT = cast("Table", Appointment.__table__)
CHANGE = (
    update(APPOINTMENT)
    .where(APPOINTMENT.c.id == bindparam("row_id"))
    .values({name: bindparam(f"new_{name}") for name in (*CHANGED, "version")})
)


@dataclass(frozen=True)
class Outcome:
    """A series and its occurrences; in a dry run they are not there."""

    series: Series
    occurrences: Sequence[Occurrence]
    dry_run: bool = False
    kept: bool = True
    """Whether the series is there; a dry run of a new one leaves none."""


def book(
    actor: Actor,
    *,
    patient_id: UUID,
    clinician_id: UUID,
    appointment_type_id: UUID,
    start: datetime,
    frequency: Frequency,
    interval: int,
    count: int | None,
    until: date | None,
    on_conflict: OnConflict,
    location_id: UUID | None,
    reason: str | None,
    sensitive: bool,
    dry_run: bool,
) -> Outcome:
    """Give a patient times that recur, by the wall clock of the clinician's zone.

    Raises ``NotFound``, ``NotYourDiary``, ``InvalidRequest`` for an ``until`` that gives too few or too many, and
    ``SeriesRefused`` when all are refused, or one is where none may be.
    """
    patient = people.get_bookable_patient(actor, patient_id)
    policy.ensure_can_book(actor, patient.spoken_for, clinician_id)
    kind = service.get_appointment_type(appointment_type_id)
    if kind.group_capacity:
        raise InvalidRequest([FieldProblem("/appointment_type_id", "seats of a group are booked one by one")])
    zone = people.get_clinician(clinician_id).time_zone
    series = Series(
        id=new_id(),
        patient_id=patient.id,
        clinician_id=clinician_id,
        appointment_type_id=kind.id,
        time_zone=zone,
        frequency=frequency,
        interval=interval,
        occurrences=count or _count_until(start, zone, frequency, interval, until),
        sensitive=sensitive,
        created_by=actor.user_id,
        version=1,
    )
    occurrences = [
        Occurrence(
            number + 1,
            booking.new_visit(actor, patient.id, kind, reason=reason, sensitive=sensitive),
            recurrence.instant_of(start, zone, frequency, interval, number),
        )
        for number in range(series.occurrences)
    ]
    claims.lock({clinician_id, patient.id})
    if dry_run:
        audit.dry_run()
    attempt = db.session.begin_nested()
    search = Search(kind, patient.id, clinician_id, location_id)
    series_times.settle(search, occurrences, whole=on_conflict is OnConflict.FAIL)
    if on_conflict is OnConflict.PROPOSE:
        series_times.propose(search, occurrences)
    _ensure_some(occurrences, all_of_them=on_conflict is OnConflict.FAIL)
    if dry_run:
        attempt.rollback()
        return Outcome(series, occurrences, dry_run=True, kept=False)
    attempt.commit()
    _add(search, series, occurrences)
    return Outcome(series, occurrences)


def get(actor: Actor, series_id: UUID) -> Outcome:
    """A series with those of its appointments that the actor may see. Raises ``NotFound``."""
    series = _visible_series(actor, series_id)
    query = queries.visible_appointments(actor).where(Appointment.series_id == series_id)
    visits = db.session.scalars(query.order_by(Appointment.occurrence)).all()
    return Outcome(series, [_as_it_is(visit) for visit in visits])


def reschedule(
    actor: Actor,
    series_id: UUID,
    expected_version: int | None,
    *,
    from_occurrence: int,
    start: datetime | None,
    clinician_id: UUID | None,
    location_id: UUID | None,
    reason: str | None,
    dry_run: bool,
) -> Outcome:
    """Let this occurrence and those that follow be at other times, or with another clinician: all of them or none.

    ``start`` is when this one is from now on; the others recur from it as they did. Those that are over,
    called off or begun stay as they are. Raises ``NotFound``, ``Stale``, ``NoneAhead``, ``SeriesRefused``, and for
    any of them what moving it alone raises.
    """
    series = _visible_series(actor, series_id, lock=True)
    ensure_version(series.version, expected_version)
    visits = _ahead(actor, series, from_occurrence)
    kind = service.get_appointment_type(series.appointment_type_id)
    for visit in visits:
        policy.outcome_of(Act.RESCHEDULE, visit.status)
        policy.is_late(actor, visit.start_at, kind.cancellation_cutoff_minutes, clock.now())
    to = clinician_id or series.clinician_id
    zone = series.time_zone
    if any(visit.clinician_id != to for visit in visits):
        patient = people.get_bookable_patient(actor, series.patient_id)
        policy.ensure_can_book(actor, patient.spoken_for, to)
        zone = people.get_clinician(to).time_zone if start else zone
    occurrences = [_moved(series, visit, from_occurrence, start, zone) for visit in visits]
    freed = [(visit.clinician_id, visit.start_at) for visit in visits]

    claims.lock({to, series.patient_id, *(whose for whose, _ in freed)})
    if dry_run:
        audit.dry_run()
    attempt = db.session.begin_nested()
    claims.release(*(visit.id for visit in visits))
    search = Search(kind, series.patient_id, to, location_id)
    series_times.settle(search, occurrences, whole=True)
    _ensure_some(occurrences, all_of_them=True)
    if dry_run:
        attempt.rollback()
        return Outcome(series, occurrences, dry_run=True)
    attempt.commit()
    for occurrence in occurrences:
        booking.put(occurrence.appointment, search.visit(occurrence.start), occurrence.place)
        occurrence.appointment.status_reason, occurrence.appointment.overbooked = reason, False
    series.clinician_id, series.time_zone = to, zone
    _write(series, visits)
    waitlist.offer_each_freed(freed)
    return Outcome(series, occurrences)


def cancel(
    actor: Actor, series_id: UUID, expected_version: int | None, *, from_occurrence: int, reason: str
) -> Outcome:
    """Call off this occurrence and those that follow, as far as they are ahead; their times are free again.

    Raises ``NotFound``, ``Stale``, ``NoneAhead``, and ``CutoffPassed`` if it is too late for one of them.
    """
    series = _visible_series(actor, series_id, lock=True)
    ensure_version(series.version, expected_version)
    visits = _ahead(actor, series, from_occurrence)
    kind = service.get_appointment_type(series.appointment_type_id)
    freed = [(visit.clinician_id, visit.start_at) for visit in visits]
    for visit in visits:
        _call_off(actor, visit, kind, reason)
    _write(series, visits)
    claims.lock({series.patient_id, *(whose for whose, _ in freed)})
    claims.release(*(visit.id for visit in visits))
    waitlist.offer_each_freed(freed)
    return Outcome(series, [_as_it_is(visit) for visit in visits])


def _count_until(start: datetime, zone: str, frequency: Frequency, interval: int, until: date | None) -> int:
    first = recurrence.wall_clock(start, zone)
    count = recurrence.count_until(first, frequency, interval, until or first.date())
    if count < 2:
        raise InvalidRequest([FieldProblem("/until", "leaves fewer than two occurrences")])
    if count > LONGEST:
        raise InvalidRequest([FieldProblem("/until", f"gives more than {LONGEST} occurrences")])
    return count


def _ensure_some(occurrences: Sequence[Occurrence], *, all_of_them: bool) -> None:
    """Raise ``SeriesRefused`` if every one, or when all must be had one, is refused."""
    refused = [occurrence for occurrence in occurrences if occurrence.reasons]
    if len(refused) == len(occurrences) or (refused and all_of_them):
        raise SeriesRefused(
            refused=[
                RefusedOccurrence(occurrence.number, occurrence.start, told(occurrence), list(occurrence.proposed))
                for occurrence in refused
            ]
        )


def told(occurrence: Occurrence) -> list[Reason]:
    """What stands in the way of the occurrence, in words."""
    return [Reason(one.code, one.detail) for one in occurrence.reasons]


def _add(search: Search, series: Series, occurrences: Sequence[Occurrence]) -> None:
    """Write the series and those of its appointments that have a time."""
    db.session.add(series)
    db.session.flush()
    audit.touch("series", series.id, patient_id=series.patient_id)
    for occurrence in occurrences:
        if not occurrence.reasons:
            booking.put(occurrence.appointment, search.visit(occurrence.start), occurrence.place)
            occurrence.appointment.series_id, occurrence.appointment.occurrence = series.id, occurrence.number
            db.session.add(occurrence.appointment)
            audit.touch("appointment", occurrence.appointment.id, patient_id=series.patient_id)
    db.session.flush()


def _ahead(actor: Actor, series: Series, from_occurrence: int) -> Sequence[Appointment]:
    """The appointments from this one on that are not over, called off or begun, locked. Raises ``NoneAhead``."""
    query = queries.visible_appointments(actor).where(
        Appointment.series_id == series.id,
        Appointment.occurrence >= from_occurrence,
        Appointment.status.in_((Status.REQUESTED, Status.BOOKED)),
        Appointment.start_at > clock.now(),
    )
    visits = db.session.scalars(query.order_by(Appointment.occurrence).with_for_update()).all()
    for visit in visits:
        audit.touch("appointment", visit.id, patient_id=visit.patient_id)
    if not visits:
        raise NoneAhead
    return visits


def _moved(series: Series, visit: Appointment, from_occurrence: int, start: datetime | None, zone: str) -> Occurrence:
    """Where the occurrence is to be; without a new start, when it was."""
    number = visit.occurrence or 0
    if start is None:
        return Occurrence(number, visit, visit.start_at)
    later = number - from_occurrence
    then = recurrence.instant_of(start, zone, Frequency(series.frequency), series.interval, later)
    return Occurrence(number, visit, then)


def _call_off(actor: Actor, visit: Appointment, kind: AppointmentType, reason: str) -> None:
    if visit.status != Status.REQUESTED:
        visit.cancelled_late = policy.is_late(actor, visit.start_at, kind.cancellation_cutoff_minutes, clock.now())
    visit.status, visit.status_reason = policy.outcome_of(Act.CANCEL, visit.status), reason


def _write(series: Series, visits: Sequence[Appointment]) -> None:
    """Write the changes at once, where the session would send an UPDATE for each; the series counts them as its own.

    The rows are locked, so nobody else has changed them since they were read.
    """
    rows = [
        {"row_id": visit.id, "new_version": visit.version + 1}
        | {f"new_{name}": getattr(visit, name) for name in CHANGED}
        for visit in visits
    ]
    db.session.connection().execute(CHANGE, rows)
    for visit in visits:
        for name in CHANGED:
            set_committed_value(visit, name, getattr(visit, name))
        set_committed_value(visit, "version", visit.version + 1)
    flag_modified(series, "clinician_id")
    db.session.flush()


def _as_it_is(visit: Appointment) -> Occurrence:
    return Occurrence(visit.occurrence or 0, visit, visit.start_at)


def _visible_series(actor: Actor, series_id: UUID, *, lock: bool = False) -> Series:
    """A series the actor may see. Raises ``NotFound`` for all others."""
    query = queries.visible_series(actor).where(Series.id == series_id)
    series = db.session.scalars(query.with_for_update() if lock else query).first()
    audit.touch("series", series_id, patient_id=series.patient_id if series else None)
    if series is None:
        raise NotFound
    return series
