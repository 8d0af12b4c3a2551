"""Time off: what it hits, where that could be instead, and what becomes of it. Nothing booked moves by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select

from medical.audit import service as audit
from medical.audit.events import Action
from medical.identity.service import ensure_version
from medical.people import service as people
from medical.platform.authz import Actor, ensure_holds
from medical.platform.db import db, unattended
from medical.platform.errors import AppError, Conflict, FieldProblem, InvalidRequest, Stale
from medical.scheduling import booking, claims, life, one_offs, policy, proposals, queries, waitlist, windows
from medical.scheduling.errors import DecisionsRefused, FreeTime, NotBookable, Reason, RefusedDecision
from medical.scheduling.hours_models import AvailabilityException
from medical.scheduling.models import Appointment, Status
from medical.scheduling.one_offs import Kind
from medical.scheduling.permissions import Permission
from medical.scheduling.policy import Act

HOLDING = (Status.REQUESTED, Status.BOOKED, Status.ARRIVED, Status.CHECKED_IN, Status.IN_PROGRESS)
"""Statuses of visits that time off hits."""
LONGEST_VISIT = timedelta(days=1)


class Decided(StrEnum):
    """What becomes of an appointment that time off hits."""

    KEEP = "keep"
    MOVE = "move"
    CANCEL = "cancel"


NEEDED = {Decided.MOVE: Permission.APPOINTMENT_RESCHEDULE, Decided.CANCEL: Permission.APPOINTMENT_CANCEL}
TRAILED = {Decided.MOVE: Action.APPOINTMENT_RESCHEDULED, Decided.CANCEL: Action.APPOINTMENT_CANCELLED}


class Decision(NamedTuple):
    """What is to become of one appointment: moved, ``start`` or ``clinician_id`` says where to."""

    appointment_id: UUID
    action: Decided
    start: datetime | None = None
    clinician_id: UUID | None = None
    location_id: UUID | None = None
    reason: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Taken:
    """Time off, the appointments it hits that the actor may see, how many others, and free times for those to move."""

    time_off: AvailabilityException
    visible: Sequence[Appointment]
    others: int
    decided: Mapping[UUID, Decided]
    proposed: Mapping[UUID, Sequence[FreeTime]]
    dry_run: bool = False


def look(actor: Actor, *, clinician_id: UUID, decisions: Sequence[Decision], **times: Any) -> Taken:
    """What time off would hit, with free times for each that could move.

    Raises ``NotFound``, ``NotYourDiary``, and ``InvalidRequest`` for decisions, which are made of what is seen here.
    """
    if decisions:
        raise InvalidRequest([FieldProblem("/decisions", "are not carried out in a dry run")])
    audit.dry_run()
    clinician = people.get_clinician(clinician_id)
    policy.ensure_can_edit_hours(actor, clinician_id)
    time_off = one_offs.make(actor, Kind.CLOSED, clinician, **times)
    visible, others = _hit_by(actor, time_off)
    for visit in visible:
        audit.touch("appointment", None, patient_id=visit.patient_id)
    movable = [visit for visit in visible if visit.status == Status.BOOKED]
    proposed = proposals.beside(time_off, clinician, movable)
    return Taken(time_off, visible, others, {}, proposed, dry_run=True)


def take(actor: Actor, *, clinician_id: UUID, decisions: Sequence[Decision], **times: Any) -> Taken:
    """Close the diary of a clinician for a time, and do what is decided; what else is booked stays, and is named.

    All of it or nothing. Raises ``NotFound``, ``NotYourDiary``, ``Forbidden``, ``InvalidRequest`` for a decision of
    an appointment that is not hit, and ``DecisionsRefused`` with every decision that cannot be done.

    Who moves an appointment locks its row before anybody's time, so this does too.
    """
    clinician = people.get_clinician(clinician_id)
    policy.ensure_can_edit_hours(actor, clinician_id)
    for needed in {NEEDED[one.action] for one in decisions if one.action in NEEDED}:
        ensure_holds(actor, needed)
    windows.hold()
    rows = _lock_rows(actor, decisions)
    time_off = one_offs.add(one_offs.make(actor, Kind.CLOSED, clinician, **times))
    claims.lock({clinician_id, *_people_of(rows), *(one.clinician_id for one in decisions if one.clinician_id)})
    if any(one.action is Decided.MOVE for one in decisions):
        claims.lock(queries.thing_ids())  # after people, in one order: several bookings in turn would cross others
    visible, others = _hit_by(actor, time_off)
    hit = {visit.id: visit for visit in visible}
    _ensure_hit(decisions, hit)
    _carry_out(actor, decisions, hit)
    for visit in visible:
        audit.touch("appointment", None, patient_id=visit.patient_id)
    audit.touch("availability-exception", time_off.id)
    return Taken(time_off, visible, others, {one.appointment_id: one.action for one in decisions}, {})


def _lock_rows(actor: Actor, decisions: Sequence[Decision]) -> Sequence[Appointment]:
    ids = [one.appointment_id for one in decisions if one.action is not Decided.KEEP]
    if not ids:
        return []
    query = queries.visible_appointments(actor).where(Appointment.id.in_(ids)).order_by(Appointment.id)
    return db.session.scalars(query.with_for_update()).all()


def _people_of(visits: Sequence[Appointment]) -> set[UUID]:
    return {one for visit in visits for one in (visit.clinician_id, visit.patient_id, *visit.with_clinician_ids)}


def _hit_by(actor: Actor, time_off: AvailabilityException) -> tuple[Sequence[Appointment], int]:
    """The appointments hit that the actor may see, by start, and how many others."""
    hit = (
        queries.of_clinician(time_off.clinician_id),
        Appointment.status.in_(HOLDING),
        Appointment.start_at < time_off.end_at,
        Appointment.start_at > time_off.start_at - LONGEST_VISIT,
        Appointment.end_at > time_off.start_at,
    )
    query = queries.visible_appointments(actor).where(*hit).order_by(Appointment.start_at, Appointment.id)
    visible = db.session.scalars(query).all()
    with unattended():
        count = db.session.scalars(select(func.count()).select_from(Appointment).where(*hit)).one()
    return visible, count - len(visible)


def _ensure_hit(decisions: Sequence[Decision], hit: Mapping[UUID, Appointment]) -> None:
    problems = [
        FieldProblem(f"/decisions/{n}/appointment_id", "is not an appointment that this time off hits")
        for n, one in enumerate(decisions)
        if one.appointment_id not in hit
    ]
    if problems:
        raise InvalidRequest(problems)


def _carry_out(actor: Actor, decisions: Sequence[Decision], hit: Mapping[UUID, Appointment]) -> None:
    """Cancel, then move, in the order in which it is told; once all is where it is to be, offer what that freed."""
    refused, freed = [], []
    for action in (Decided.CANCEL, Decided.MOVE):
        for decision in decisions:
            if decision.action is action:
                visit = hit[decision.appointment_id]
                start, savepoint = visit.start_at, db.session.begin_nested()
                try:
                    freed += [(clinician_id, start) for clinician_id in _do(actor, visit, decision)]
                except (Conflict, Stale) as refusal:
                    savepoint.rollback()
                    refused.append(RefusedDecision(decision.appointment_id, _reasons_of(refusal)))
                else:
                    savepoint.commit()
    if refused:
        for one in refused:
            audit.touch("appointment", one.appointment_id, patient_id=hit[one.appointment_id].patient_id)
        raise DecisionsRefused(refused=refused)
    _leave_trail(decisions, hit)
    waitlist.offer_each_freed(freed)


def _do(actor: Actor, visit: Appointment, decision: Decision) -> Sequence[UUID]:
    """Do what is decided; the clinicians whose time that gave free."""
    ensure_version(visit.version, decision.version)
    if decision.action is Decided.CANCEL:
        return life.apply(actor, visit, Act.CANCEL, decision.reason)
    return booking.move(
        actor,
        visit,
        start=decision.start or visit.start_at,
        clinician_id=decision.clinician_id,
        location_id=decision.location_id,
        reason=decision.reason,
    )


def _reasons_of(refusal: AppError) -> list[Reason]:
    return refusal.reasons if isinstance(refusal, NotBookable) else [Reason(refusal.code, refusal.detail)]


def _leave_trail(decisions: Sequence[Decision], hit: Mapping[UUID, Appointment]) -> None:
    """What was done is told of as if it had been done to each alone: first the moves, which touched patients too."""
    for decided, action in TRAILED.items():
        visits = [hit[one.appointment_id] for one in decisions if one.action is decided]
        for visit in visits:
            audit.touch("appointment", visit.id, patient_id=visit.patient_id)
        if visits:
            audit.record(action, "success")
