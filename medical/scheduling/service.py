"""What is done with appointment types and availabilities, and how appointments are found."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm.attributes import set_committed_value

from medical.audit import service as audit
from medical.identity.service import ensure_version
from medical.people import service as people
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, flush_or_raise
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound
from medical.platform.ids import new_id
from medical.scheduling import policy, queries, slots, windows
from medical.scheduling.errors import AppointmentTypeExists
from medical.scheduling.models import Appointment, AppointmentEvent, AppointmentType, Availability

list_appointment_types = queries.list_appointment_types
list_availabilities = queries.list_availabilities


def create_appointment_type(*, grid_minutes: int | None, duration_minutes: int, **details: Any) -> AppointmentType:
    """A new kind of visit; its grid is its duration unless said otherwise. Raises ``AppointmentTypeExists``."""
    kind = AppointmentType(
        id=new_id(),
        duration_minutes=duration_minutes,
        grid_minutes=grid_minutes or duration_minutes,
        **details,
    )
    db.session.add(kind)
    flush_or_raise({"uq_appointment_type_organization_id_name": AppointmentTypeExists})
    audit.touch("appointment-type", kind.id)
    return kind


def get_appointment_type(type_id: UUID) -> AppointmentType:
    """A kind of visit. Raises ``NotFound``."""
    kind = db.session.scalars(select(AppointmentType).where(AppointmentType.id == type_id)).first()
    if kind is None:
        raise NotFound("There is no such appointment type in your organisation.")
    return kind


def types_by_id() -> dict[UUID, AppointmentType]:
    """The organisation's kinds of visits, by name."""
    return {kind.id: kind for kind in db.session.scalars(select(AppointmentType).order_by(AppointmentType.name))}


def create_availability(
    actor: Actor, *, clinician_id: UUID, time_zone: str | None, valid_from: date | None, **details: Any
) -> Availability:
    """Weekly hours of a clinician, in the clinician's zone unless another is given.

    Raises ``NotFound`` for a clinician, location or type that is not there, and ``NotYourDiary``.
    """
    clinician = people.get_clinician(clinician_id)
    policy.ensure_can_edit_hours(actor, clinician_id)
    windows.hold()
    location_id = details.pop("location_id") or clinician.location_id
    zone = time_zone or clinician.time_zone
    availability = Availability(
        id=new_id(),
        clinician_id=clinician_id,
        time_zone=zone,
        location_id=location_id,
        valid_from=valid_from,
        first_week_on=_first_week(valid_from, zone),
        **details,
    )
    ensure_references(location_id, availability.appointment_type_ids)
    db.session.add(availability)
    windows.refresh([clinician_id])
    audit.touch("availability", availability.id)
    return availability


def get_availability(availability_id: UUID, *, lock: bool = False) -> Availability:
    """Weekly hours. Raises ``NotFound``."""
    query = select(Availability).where(Availability.id == availability_id)
    availability = db.session.scalars(query.with_for_update() if lock else query).first()
    if availability is None:
        raise NotFound
    audit.touch("availability", availability_id)
    return availability


def update_availability(
    actor: Actor, availability_id: UUID, expected_version: int | None, changes: Mapping[str, Any]
) -> Availability:
    """Change weekly hours; appointments that are booked stay. Raises ``NotFound``, ``NotYourDiary`` or ``Stale``."""
    windows.hold()
    availability = get_availability(availability_id, lock=True)
    policy.ensure_can_edit_hours(actor, availability.clinician_id)
    ensure_version(availability.version, expected_version)
    ensure_references(changes.get("location_id"), changes.get("appointment_type_ids"))
    previous = availability.valid_from
    for name, value in changes.items():
        setattr(availability, name, value)
    if availability.valid_from and availability.valid_from != previous:
        availability.first_week_on = _first_week(availability.valid_from, availability.time_zone)
    if availability.valid_from and availability.valid_until and availability.valid_until < availability.valid_from:
        raise InvalidRequest([FieldProblem("/valid_until", "lies before valid_from")])
    windows.refresh([availability.clinician_id])
    return availability


def delete_availability(actor: Actor, availability_id: UUID, expected_version: int | None) -> None:
    """Remove weekly hours; appointments that are booked stay. Raises ``NotFound``, ``NotYourDiary`` or ``Stale``."""
    windows.hold()
    availability = get_availability(availability_id, lock=True)
    policy.ensure_can_edit_hours(actor, availability.clinician_id)
    ensure_version(availability.version, expected_version)
    db.session.delete(availability)
    windows.refresh([availability.clinician_id])


def ensure_references(location_id: UUID | None, appointment_type_ids: Sequence[UUID] | None) -> None:
    """Raise ``NotFound`` unless the location and the types that hours name are there."""
    if location_id:
        people.ensure_location(location_id)
    if appointment_type_ids and set(appointment_type_ids) - queries.known_types(appointment_type_ids):
        raise NotFound("Not all of these appointment types are in your organisation.")


def _first_week(valid_from: date | None, zone: str) -> date:
    """The Monday of the week of ``valid_from``, or of the present week in ``zone``."""
    day = valid_from or clock.now().astimezone(ZoneInfo(zone)).date()
    return day - timedelta(days=day.weekday())


def search_slots(
    actor: Actor,
    *,
    appointment_type_id: UUID,
    start: datetime,
    until: datetime,
    clinician_ids: Sequence[UUID] | None,
    specialty: str | None,
    location_id: UUID | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
    duration_minutes: int | None = None,
    with_clinician_ids: Sequence[UUID] | None = None,
) -> Sequence[slots.Slot]:
    """Times that the actor may book, by start and clinician.

    Raises ``NotFound`` without such a type, and ``InvalidRequest`` for what it does not allow.
    """
    if duration_minutes or with_clinician_ids:
        policy.ensure_fits(get_appointment_type(appointment_type_id), duration_minutes, with_clinician_ids or ())
    if only := policy.bookable_by(actor):
        clinician_ids = [only] if clinician_ids is None or only in clinician_ids else []
    found = slots.search(
        appointment_type_id=appointment_type_id,
        start=start,
        until=until,
        clinician_ids=clinician_ids,
        specialty=specialty,
        location_id=location_id,
        now=clock.now(),
        limit=limit,
        after=after,
        minutes=duration_minutes,
        with_ids=with_clinician_ids or (),
    )
    if found is None:
        raise NotFound("There is no such appointment type in your organisation.")
    return found


def flush(appointment: Appointment) -> None:
    """Write a change; an UPDATE makes SQLAlchemy forget what was selected beside the columns."""
    seen, others = appointment.reason_seen, appointment.with_clinician_ids
    db.session.flush()
    set_committed_value(appointment, "reason_seen", seen)
    set_committed_value(appointment, "with_clinician_ids", others)


def list_appointments(actor: Actor, *, limit: int, **filters: Any) -> Sequence[Appointment]:
    """Visible appointments that fit all that is given, by start and id, one more than ``limit`` if more follow."""
    rows = queries.list_appointments(actor, limit=limit, **filters)
    for appointment in rows[:limit]:
        audit.touch("appointment", None, patient_id=appointment.patient_id)
    return rows


def get_appointment(actor: Actor, appointment_id: UUID, *, lock: bool = False) -> Appointment:
    """An appointment the actor may see. Raises ``NotFound`` for all others."""
    query = queries.visible_appointments(actor).where(Appointment.id == appointment_id)
    appointment = db.session.scalars(query.with_for_update() if lock else query).first()
    audit.touch("appointment", appointment_id, patient_id=appointment.patient_id if appointment else None)
    if appointment is None:
        raise NotFound
    return appointment


def history(actor: Actor, appointment_id: UUID, limit: int, after: int | None) -> Sequence[AppointmentEvent]:
    """What became of an appointment, oldest first. Raises ``NotFound``."""
    appointment = get_appointment(actor, appointment_id)
    events = queries.history(appointment_id, limit, after)
    for event in events:
        event.reason_seen = appointment.reason_seen or event.actor_id == actor.user_id
    return events


last_changes = queries.last_changes
