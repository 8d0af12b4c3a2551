"""What is read of diaries; every SELECT of appointments starts from `visible_appointments`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, false, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import with_expression

from medical.identity.permissions import Role
from medical.people.models import Device, Room
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.scheduling.models import (
    Appointment,
    AppointmentEvent,
    AppointmentParticipant,
    AppointmentType,
    Availability,
)
from medical.scheduling.permissions import DESK
from medical.scheduling.series_models import Series

OTHERS = func.coalesce(
    select(func.array_agg(AppointmentParticipant.clinician_id))
    .where(AppointmentParticipant.appointment_id == Appointment.id)
    .correlate(Appointment)
    .scalar_subquery(),
    literal([], ARRAY(Uuid)),
)
"""The other clinicians who take part in an appointment."""


def of_clinician(clinician_id: UUID) -> ColumnElement[bool]:
    """Whether a clinician takes part in an appointment."""
    also = select(AppointmentParticipant.appointment_id).where(AppointmentParticipant.clinician_id == clinician_id)
    return or_(Appointment.clinician_id == clinician_id, Appointment.id.in_(also))


def visible_appointments(actor: Actor) -> Select[Appointment]:
    """The appointments this actor may see: the desk all, clinicians those they take part in, patients their own and
    those of whom they act for, but for sensitive ones.

    Service clients see what they booked.
    Why the patient comes shows only to whoever sees the patient's record as patient or carer, and who wrote it.
    """
    knows = or_(
        Appointment.created_by == actor.user_id, Appointment.patient_id.in_(select(func.seen_patients(actor.user_id)))
    )
    query = select(Appointment).options(
        with_expression(Appointment.reason_seen, knows), with_expression(Appointment.with_clinician_ids, OTHERS)
    )
    if actor.roles & DESK:
        return query
    seen = _is_seen(actor, Appointment)
    if Role.CLINICIAN in actor.roles:
        seen |= Appointment.id.in_(select(func.taking_part(actor.user_id)))
    return query.where(seen)


def thing_ids() -> Sequence[UUID]:
    """All rooms and devices of the organisation."""
    return db.session.scalars(select(Room.id).union_all(select(Device.id))).all()


def visible_series(actor: Actor) -> Select[Series]:
    """The series this actor may see: as with appointments, whose clinician is whom the last of them are with."""
    query = select(Series)
    return query if actor.roles & DESK else query.where(_is_seen(actor, Series))


def _is_seen(actor: Actor, model: type[Appointment] | type[Series]) -> ColumnElement[bool]:
    """What makes an appointment or a series visible to who is not of the desk."""
    seen: list[ColumnElement[bool]] = [false()]
    if Role.CLINICIAN in actor.roles:
        seen.append(model.clinician_id == actor.user_id)
    if Role.PATIENT in actor.roles:
        seen.append(model.patient_id.in_(select(func.own_patients(actor.user_id))))
        proxied = select(func.proxied_patients(actor.user_id, "appointments"))
        seen.append(~model.sensitive & model.patient_id.in_(proxied))
    if Role.SERVICE in actor.roles:
        seen.append(model.created_by == actor.user_id)
    return or_(*seen)


def list_appointments(
    actor: Actor,
    *,
    start: datetime | None,
    until: datetime | None,
    clinician_id: UUID | None,
    patient_id: UUID | None,
    location_id: UUID | None,
    status: Sequence[str] | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
    ids: Sequence[UUID] | None = None,
    appointment_type_ids: Sequence[UUID] | None = None,
) -> Sequence[Appointment]:
    """Visible appointments that start in [start, until), by start and id, one more than ``limit`` if more follow."""
    query = visible_appointments(actor).order_by(Appointment.start_at, Appointment.id).limit(limit + 1)
    if ids is not None:
        query = query.where(Appointment.id.in_(ids))
    if appointment_type_ids is not None:
        query = query.where(Appointment.appointment_type_id.in_(appointment_type_ids))
    if clinician_id:
        query = query.where(of_clinician(clinician_id))
    equal = {
        Appointment.patient_id: patient_id,
        Appointment.location_id: location_id,
    }
    query = query.where(*(column == value for column, value in equal.items() if value))
    if start:
        query = query.where(Appointment.start_at >= start)
    if until:
        query = query.where(Appointment.start_at < until)
    if status:
        query = query.where(Appointment.status.in_(status))
    if after:
        query = query.where(tuple_(Appointment.start_at, Appointment.id) > after)
    return db.session.scalars(query).all()


def last_changes(appointment_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When each of the appointments was changed last."""
    query = (
        select(AppointmentEvent.appointment_id, func.max(AppointmentEvent.occurred_at))
        .where(AppointmentEvent.appointment_id.in_(appointment_ids))
        .group_by(AppointmentEvent.appointment_id)
    )
    return dict(db.session.execute(query).all())


def history(appointment_id: UUID, limit: int, after: int | None) -> Sequence[AppointmentEvent]:
    """What became of an appointment, oldest first, one more than ``limit`` when more follow."""
    query = (
        select(AppointmentEvent)
        .where(AppointmentEvent.appointment_id == appointment_id, AppointmentEvent.version > (after or 0))
        .order_by(AppointmentEvent.version)
        .limit(limit + 1)
    )
    return db.session.scalars(query).all()


def list_appointment_types(limit: int, after: tuple[str, UUID] | None) -> Sequence[AppointmentType]:
    """Appointment types by name, one more than ``limit`` when more follow."""
    query = select(AppointmentType).order_by(AppointmentType.name, AppointmentType.id).limit(limit + 1)
    if after:
        query = query.where(tuple_(AppointmentType.name, AppointmentType.id) > after)
    return db.session.scalars(query).all()


def known_types(ids: Sequence[UUID]) -> set[UUID]:
    """Which of ``ids`` are appointment types of the organisation."""
    return set(db.session.scalars(select(AppointmentType.id).where(AppointmentType.id.in_(ids))))


def list_availabilities(
    clinician_id: UUID | None, limit: int, after: tuple[UUID, UUID] | None
) -> Sequence[Availability]:
    """Availabilities by clinician and id, one more than ``limit`` when more follow."""
    order = (Availability.clinician_id, Availability.id)
    query = select(Availability).order_by(*order).limit(limit + 1)
    if clinician_id:
        query = query.where(Availability.clinician_id == clinician_id)
    if after:
        query = query.where(tuple_(*order) > after)
    return db.session.scalars(query).all()
