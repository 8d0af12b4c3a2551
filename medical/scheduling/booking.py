"""How an appointment comes to its time: booked, moved, from a hold, with the fairest of several, or beside another.

A refusal tells everything that stands in the way, and what is free next.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from medical.audit import service as audit
from medical.identity.service import ensure_version
from medical.people import service as people
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.scheduling import claims, fairness, groups, holds, limits, policy, service, slots, times, waitlist
from medical.scheduling.claims import Claim
from medical.scheduling.errors import HoldExpired, NotBookable, SlotTaken, TooSoon, refusal_for
from medical.scheduling.models import Appointment, AppointmentParticipant, AppointmentType, Status
from medical.scheduling.policy import Act
from medical.scheduling.times import Take, Visit, Wish


def book(
    actor: Actor,
    *,
    patient_id: UUID,
    appointment_type_id: UUID,
    start: datetime,
    reason: str | None,
    clinician_id: UUID | None = None,
    specialty: str | None = None,
    location_id: UUID | None = None,
    sensitive: bool = False,
    hold_id: UUID | None = None,
    duration_minutes: int | None = None,
    with_clinician_ids: Sequence[UUID] = (),
) -> Appointment:
    """Give a patient a time: with this clinician, or with the fairest free one of the specialty.

    A type that needs approval is requested for now, and has its time nonetheless. ``hold_id`` names the
    caller's hold of the time; ``with_clinician_ids`` are others who take part. Raises ``NotFound``,
    ``NotYourDiary``, ``InvalidRequest`` for what the type does not allow, or ``NotBookable`` with every reason.
    """
    patient = people.get_bookable_patient(actor, patient_id)
    for one in filter(None, (clinician_id, *with_clinician_ids)):
        policy.ensure_can_book(actor, patient.spoken_for, one)
    kind = service.get_appointment_type(appointment_type_id)
    policy.ensure_fits(kind, duration_minutes, with_clinician_ids)
    if hold_id and kind.group_capacity:
        raise HoldExpired  # seats of a group are not held
    appointment = new_visit(actor, patient.id, kind, reason=reason, sensitive=sensitive)
    appointment.with_clinician_ids = [*with_clinician_ids]
    wish = Wish(kind, start, location_id, duration_minutes, with_clinician_ids)
    if clinician_id is None:
        only = policy.only_choice(actor, patient.spoken_for)
        _settle_with_anyone(appointment, wish, specialty, [only] if only else None)
    else:
        visit = wish.of(clinician_id)
        take = _from_hold(actor, appointment, visit, hold_id) if hold_id else partial(claims.claim, appointment.id)
        _settle(appointment, visit, take, own_id=hold_id)
    return _added(appointment)


def overbook(
    actor: Actor,
    *,
    patient_id: UUID,
    clinician_id: UUID,
    appointment_type_id: UUID,
    start: datetime,
    overbook_reason: str,
    reason: str | None,
    location_id: UUID | None = None,
    sensitive: bool = False,
) -> Appointment:
    """Book even if the clinician has somebody at this time, beside them; only the clinician's time may be taken.

    Raises what ``book`` raises; ``SlotTaken`` when the clinician has as many beside each other as can be.
    """
    patient = people.get_bookable_patient(actor, patient_id)
    policy.ensure_can_book(actor, patient.spoken_for, clinician_id)
    kind = service.get_appointment_type(appointment_type_id)
    appointment = new_visit(actor, patient.id, kind, reason=reason, sensitive=sensitive)

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        reasons, appointment.overbooked = claims.claim_beside(appointment.id, wanted)
        return reasons

    _settle(appointment, Wish(kind, start, location_id).of(clinician_id), take)
    appointment.status_reason = overbook_reason
    return _added(appointment)


def accept_offer(actor: Actor, entry_id: UUID) -> Appointment:
    """Book the time that is offered to who waits. Raises ``NotFound``, ``OfferExpired`` and what ``book`` raises."""
    entry, offer = waitlist.take_offer(actor, entry_id)
    patient = people.get_bookable_patient(actor, entry.patient_id)
    policy.ensure_can_book(actor, patient.spoken_for, offer.clinician_id)
    kind = service.get_appointment_type(entry.appointment_type_id)
    appointment = new_visit(actor, patient.id, kind, reason=None, sensitive=False)

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        kept = holds.use_offered(offer.hold_id)
        return claims.claim(appointment.id, wanted) if kept else [HoldExpired, *claims.busy(wanted)]

    _settle(appointment, Wish(kind, offer.start_at).of(offer.clinician_id), take, own_id=offer.hold_id)
    return _added(appointment)


def reschedule(
    actor: Actor,
    appointment_id: UUID,
    expected_version: int | None,
    *,
    start: datetime,
    clinician_id: UUID | None,
    location_id: UUID | None,
    reason: str | None,
) -> Appointment:
    """Give an appointment another time, or clinician, keeping its id; refused, it stays where it was.

    It lasts as long as before, and whoever else takes part moves with it. Raises what ``book`` raises,
    ``InvalidTransition``, ``CutoffPassed`` and ``Stale``.
    """
    appointment = service.get_appointment(actor, appointment_id, lock=True)
    ensure_version(appointment.version, expected_version)
    freed_at = appointment.start_at
    freed = move(actor, appointment, start=start, clinician_id=clinician_id, location_id=location_id, reason=reason)
    waitlist.offer_freed(freed, freed_at)
    return appointment


def move(
    actor: Actor,
    appointment: Appointment,
    *,
    start: datetime,
    clinician_id: UUID | None,
    location_id: UUID | None,
    reason: str | None,
) -> Sequence[UUID]:
    """Reschedule an appointment whose row is locked; the clinicians whose time that gave free. See ``reschedule``."""
    policy.outcome_of(Act.RESCHEDULE, appointment.status)
    kind = service.get_appointment_type(appointment.appointment_type_id)
    policy.is_late(actor, appointment.start_at, kind.cancellation_cutoff_minutes, clock.now())
    old = times.visit_of(kind, appointment)
    new = replace(old, start=start, clinician_id=clinician_id or old.clinician_id, location_id=location_id)
    if new.clinician_id != old.clinician_id:
        patient = people.get_bookable_patient(actor, appointment.patient_id)
        policy.ensure_can_book(actor, patient.spoken_for, new.clinician_id)

    claims.lock({old.clinician_id, *new.clinicians, appointment.patient_id})
    if appointment.session_id:
        groups.leave(appointment.session_id)
        claims.release(appointment.id)
    _settle(appointment, new, partial(claims.move, appointment.id), own_id=appointment.id)
    appointment.status_reason, appointment.overbooked = reason, False
    service.flush(appointment)
    return old.clinicians


def new_visit(
    actor: Actor, patient_id: UUID, kind: AppointmentType, *, reason: str | None, sensitive: bool
) -> Appointment:
    """An appointment without a time yet."""
    appointment = Appointment(
        id=new_id(),
        patient_id=patient_id,
        appointment_type_id=kind.id,
        status=Status.REQUESTED if kind.needs_approval else Status.BOOKED,
        reason=reason,
        sensitive=sensitive,
        overbooked=False,
        cancelled_late=False,
        created_by=actor.user_id,
    )
    appointment.reason_seen = True
    return appointment


def _added(appointment: Appointment) -> Appointment:
    db.session.add(appointment)
    db.session.flush()
    if appointment.with_clinician_ids:
        db.session.add_all(
            AppointmentParticipant(appointment_id=appointment.id, clinician_id=clinician_id)
            for clinician_id in appointment.with_clinician_ids
        )
        db.session.flush()
    audit.touch("appointment", appointment.id, patient_id=appointment.patient_id)
    return appointment


def _from_hold(actor: Actor, appointment: Appointment, visit: Visit, hold_id: UUID) -> Take:
    """Claims what the caller holds; without the hold it claims nothing, though the time be free."""

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        kept = holds.use(actor, hold_id, visit)
        return claims.claim(appointment.id, wanted) if kept else [HoldExpired, *claims.busy(wanted)]

    return take


def _settle(appointment: Appointment, visit: Visit, take: Take, own_id: UUID | None = None) -> None:
    """Give the appointment this time; raises ``NotBookable`` with every reason against it.

    What ``own_id``, the appointment itself or the hold that it comes from, has claimed is not in the way.
    """
    reasons = _attempt(appointment, visit, take, own_id)
    if reasons:
        raise refusal_for(reasons, partial(times.next_free, visit, [visit.clinician_id], None, appointment))


def _attempt(appointment: Appointment, visit: Visit, take: Take, own_id: UUID | None = None) -> list[type[NotBookable]]:
    """Give the appointment this time; what stands in the way, or nothing."""
    place, reasons = groups.attempt(visit, appointment, take, own_id=own_id)
    reasons += limits.reached(visit.kind, appointment, visit.clinician_id, visit.start)
    if not reasons:
        put(appointment, visit, place)
    return reasons


def put(appointment: Appointment, visit: Visit, place: Any) -> None:
    """Set when, where and with whom."""
    appointment.clinician_id = visit.clinician_id
    appointment.location_id, appointment.session_id = place.location_id, place.session_id
    appointment.start_at, appointment.end_at = visit.start, place.ends
    appointment.time_zone, appointment.local_start = place.time_zone, place.local_start


def _settle_with_anyone(appointment: Appointment, wish: Wish, specialty: str | None, only: list[UUID] | None) -> None:
    """Give the appointment the time of the wish with the fairest clinician who is free.

    Each is tried in a savepoint: who is not to be had is waited for no longer (its locks go too), so that
    two who try the same people in different orders do not wait for each other.
    """
    reasons: set[type[NotBookable]] = set()
    free = _free_then(wish, specialty, only)
    for clinician_id in fairness.in_order(free, appointment.patient_id, wish.start):
        savepoint = db.session.begin_nested()
        take = partial(claims.claim, appointment.id)
        against = _attempt(appointment, wish.of(clinician_id), take)
        if not against:
            savepoint.commit()
            return
        savepoint.rollback()
        reasons |= set(against)
    next_free = partial(times.next_free, wish, only, specialty, appointment)
    raise refusal_for([*(reasons or _against_anyone(wish))], next_free)


def _free_then(wish: Wish, specialty: str | None, only: list[UUID] | None) -> list[UUID]:
    """Who is offered at this very time."""
    found = slots.search(
        appointment_type_id=wish.kind.id,
        start=wish.start,
        until=wish.start + timedelta(minutes=1),
        clinician_ids=only,
        specialty=specialty,
        location_id=wish.location_id,
        now=clock.now(),
        limit=1000,
        after=None,
        minutes=wish.minutes,
        with_ids=wish.with_ids,
    )
    return [slot.clinician_id for slot in found or () if slot.clinician_id not in wish.with_ids]


def _against_anyone(wish: Wish) -> list[type[NotBookable]]:
    """Why nobody is offered at this time."""
    if wish.start < clock.now() + timedelta(minutes=wish.kind.min_notice_minutes):
        return [TooSoon]
    return [SlotTaken]
