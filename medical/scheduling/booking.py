"""How an appointment comes to its time: booked, moved, from a hold, with the fairest of several, or beside another.

A refusal tells everything that stands in the way, and what is free next.
"""

from collections.abc import Sequence
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
from medical.scheduling.times import Take, Visit


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
    ``NotYourDiary``, ``InvalidRequest`` for a duration that the type has not, or ``NotBookable`` with every reason.
    """
    patient = people.get_bookable_patient(actor, patient_id)
    for one in [*([clinician_id] if clinician_id else []), *with_clinician_ids]:
        policy.ensure_can_book(actor, patient.spoken_for, one)
    kind = service.get_appointment_type(appointment_type_id)
    policy.ensure_duration(kind, duration_minutes)
    appointment = _new(actor, patient.id, kind, reason=reason, sensitive=sensitive)
    appointment.with_clinician_ids = [*with_clinician_ids]
    anyone = Visit(kind, patient.id, start, location_id, duration_minutes, with_clinician_ids)
    if clinician_id is None:
        only = policy.only_choice(actor, patient.spoken_for)
        _settle_with_anyone(appointment, anyone, specialty, [only] if only else None)
    else:
        visit = anyone._replace(clinician_id=clinician_id)
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
    appointment = _new(actor, patient.id, kind, reason=reason, sensitive=sensitive)

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        reasons, appointment.overbooked = claims.claim_beside(appointment.id, wanted)
        return reasons

    _settle(appointment, Visit(kind, clinician_id, start, location_id), take)
    appointment.status_reason = overbook_reason
    return _added(appointment)


def accept_offer(actor: Actor, entry_id: UUID) -> Appointment:
    """Book the time that is offered to who waits. Raises ``NotFound``, ``OfferExpired`` and what ``book`` raises."""
    entry, offer = waitlist.take_offer(actor, entry_id)
    patient = people.get_bookable_patient(actor, entry.patient_id)
    policy.ensure_can_book(actor, patient.spoken_for, offer.clinician_id)
    kind = service.get_appointment_type(entry.appointment_type_id)
    appointment = _new(actor, patient.id, kind, reason=None, sensitive=False)

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        kept = holds.use_offered(offer.hold_id)
        return claims.claim(appointment.id, wanted) if kept else [HoldExpired, *claims.busy(wanted)]

    _settle(appointment, Visit(kind, offer.clinician_id, offer.start_at), take, own_id=offer.hold_id)
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
    policy.outcome_of(Act.RESCHEDULE, appointment.status)
    kind = service.get_appointment_type(appointment.appointment_type_id)
    policy.is_late(actor, appointment.start_at, kind.cancellation_cutoff_minutes, clock.now())
    old_start, old_clinician_id = appointment.start_at, appointment.clinician_id
    new_clinician_id = clinician_id or old_clinician_id
    if new_clinician_id != old_clinician_id:
        patient = people.get_bookable_patient(actor, appointment.patient_id)
        policy.ensure_can_book(actor, patient.spoken_for, new_clinician_id)

    minutes = (appointment.end_at - appointment.start_at) // timedelta(minutes=1)
    visit = Visit(kind, new_clinician_id, start, location_id, minutes, appointment.with_clinician_ids)
    claims.lock({old_clinician_id, *visit.clinicians, appointment.patient_id})
    _leave_group(appointment)
    _settle(appointment, visit, partial(claims.move, appointment.id), own_id=appointment.id)
    appointment.status_reason, appointment.overbooked = reason, False
    service.flush(appointment)
    waitlist.offer_freed(old_clinician_id, old_start)
    return appointment


def _leave_group(appointment: Appointment) -> None:
    """Give the seat in a group free, and the patient's time; what is refused later rolls it back."""
    if appointment.session_id:
        groups.leave(appointment)
        claims.release(appointment.id)


def _new(actor: Actor, patient_id: UUID, kind: AppointmentType, *, reason: str | None, sensitive: bool) -> Appointment:
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
        claims.release(appointment.id)
        raise refusal_for(reasons, times.next_free(visit, appointment))


def _attempt(appointment: Appointment, visit: Visit, take: Take, own_id: UUID | None = None) -> list[type[NotBookable]]:
    """Give the appointment this time; what stands in the way, or nothing."""
    if visit.kind.group_capacity:
        place, reasons = groups.take_seat(visit, appointment)
    else:
        place, reasons = times.attempt(visit, appointment.patient_id, take, own_id=own_id)
    reasons += limits.reached(visit.kind, appointment, visit.clinician_id, visit.start)
    if not reasons:
        _put(appointment, visit, place)
    return reasons


def _put(appointment: Appointment, visit: Visit, place: Any) -> None:
    """Set when, where and with whom."""
    appointment.clinician_id = visit.clinician_id
    appointment.location_id = place.location_id
    appointment.start_at, appointment.end_at = visit.start, place.ends
    appointment.time_zone, appointment.local_start = place.time_zone, place.local_start


def _settle_with_anyone(
    appointment: Appointment, anyone: Visit, specialty: str | None, only: list[UUID] | None
) -> None:
    """Give the appointment the time of ``anyone`` with the fairest clinician who is free.

    Each is tried in a savepoint: who is not to be had is waited for no longer (its locks go too), so that
    two who try the same people in different orders do not wait for each other.
    """
    reasons: set[type[NotBookable]] = set()
    free = _free_then(anyone, specialty, only)
    for clinician_id in fairness.in_order(free, appointment.patient_id, anyone.start):
        savepoint = db.session.begin_nested()
        take = partial(claims.claim, appointment.id)
        against = _attempt(appointment, anyone._replace(clinician_id=clinician_id), take)
        if not against:
            savepoint.commit()
            return
        savepoint.rollback()
        reasons |= set(against)
    offered = times.next_free_of(anyone, only, specialty, appointment)
    raise refusal_for([*(reasons or _against_anyone(anyone))], offered)


def _free_then(anyone: Visit, specialty: str | None, only: list[UUID] | None) -> list[UUID]:
    """Who is offered at this very time."""
    found = slots.search(
        appointment_type_id=anyone.kind.id,
        start=anyone.start,
        until=anyone.start + timedelta(minutes=1),
        clinician_ids=only,
        specialty=specialty,
        location_id=anyone.location_id,
        now=clock.now(),
        limit=1000,
        after=None,
        minutes=anyone.minutes,
        with_ids=anyone.with_ids,
    )
    return [slot.clinician_id for slot in found or () if slot.clinician_id not in anyone.with_ids]


def _against_anyone(anyone: Visit) -> list[type[NotBookable]]:
    """Why nobody is offered at this time."""
    if anyone.start < clock.now() + timedelta(minutes=anyone.kind.min_notice_minutes):
        return [TooSoon]
    return [SlotTaken]
