"""What becomes of an appointment once it has a time: the moves of the table of states."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from sqlalchemy import text

from medical.identity.service import ensure_version
from medical.platform import authz, clock
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.scheduling import claims, groups, policy, service, times, waitlist
from medical.scheduling.errors import refusal_for
from medical.scheduling.models import Appointment, Status
from medical.scheduling.policy import Act

DRAW = text(
    """
    INSERT INTO queue_day AS q (id, organization_id, location_id, day, last_number)
    VALUES (:id, :organization_id, :location_id, :day, 1)
    ON CONFLICT (organization_id, location_id, day) DO UPDATE SET last_number = q.last_number + 1
    RETURNING last_number
    """
)
"""The next number of a place and day. It comes of a row, not of counting who is there: none is given twice."""


def change(
    actor: Actor, appointment_id: UUID, expected_version: int | None, act: Act, reason: str | None = None
) -> Appointment:
    """Do this with the appointment, giving its time free or taking it again where the outcome does.

    Raises ``NotFound``, ``Stale``, ``InvalidTransition``, what the time of the act or the cut-off has
    against it, and ``NotBookable`` where the time is not free any more.
    """
    appointment = service.get_appointment(actor, appointment_id, lock=True)
    ensure_version(appointment.version, expected_version)
    return _done(actor, appointment, act, reason)


def _done(actor: Actor, appointment: Appointment, act: Act, reason: str | None) -> Appointment:
    """The appointment, whose row is locked, after the act; time that it gave free is offered to who waits."""
    if freed := apply(actor, appointment, act, reason):
        waitlist.offer_freed(freed, appointment.start_at)
    return appointment


def become(
    actor: Actor, appointment_id: UUID, expected_version: int | None, to: Status, reason: str | None = None
) -> Appointment:
    """Do with the appointment what leads to this status. Raises ``Forbidden`` and what ``change`` raises."""
    appointment = service.get_appointment(actor, appointment_id, lock=True)
    ensure_version(appointment.version, expected_version)
    act = policy.act_towards(appointment.status, to)
    authz.ensure_holds(actor, policy.NEEDED[act])
    return _done(actor, appointment, act, reason)


def apply(actor: Actor, appointment: Appointment, act: Act, reason: str | None = None) -> Sequence[UUID]:
    """Do this with an appointment whose row is locked; the clinicians whose time that gave free.

    Raises what ``change`` raises of the act itself.
    """
    to = policy.outcome_of(act, appointment.status)
    policy.ensure_timely(act, appointment.start_at, appointment.time_zone, clock.now())
    if act is Act.CANCEL and appointment.status != Status.REQUESTED:
        kind = service.get_appointment_type(appointment.appointment_type_id)
        cutoff = kind.cancellation_cutoff_minutes
        appointment.cancelled_late = policy.is_late(actor, appointment.start_at, cutoff, clock.now())
    elif act is Act.CHECK_IN:
        appointment.queue_number = _draw(appointment)
    elif act is Act.REINSTATE:
        _take_again(appointment)
    appointment.status, appointment.status_reason = to, reason
    if to in policy.RELEASING:
        return _give_free(appointment)
    service.flush(appointment)
    return []


def _give_free(appointment: Appointment) -> Sequence[UUID]:
    """Write that it is off, and release the time; whose it was.

    The lock comes before the release: who waits for the time under it waits for this transaction too.
    """
    clinician_ids = [appointment.clinician_id, *appointment.with_clinician_ids]
    session_id, appointment.session_id = appointment.session_id, None
    service.flush(appointment)
    claims.lock([*clinician_ids, appointment.patient_id])
    if session_id:
        groups.leave(session_id)
    claims.release(appointment.id)
    return clinician_ids


def _draw(appointment: Appointment) -> int:
    """The next number of the appointment's place and local day; others wait for it until the request ends."""
    values = {
        "id": new_id(),
        "organization_id": scope_organization(),
        "location_id": appointment.location_id,
        "day": policy.local_day(appointment.start_at, appointment.time_zone),
    }
    return int(db.session.scalars(DRAW, values).one())


def _take_again(appointment: Appointment) -> None:
    """Claim the time that was given free; raises ``NotBookable`` when somebody else has it by now."""
    kind = service.get_appointment_type(appointment.appointment_type_id)
    place, reasons = groups.attempt(
        times.visit_of(kind, appointment), appointment, partial(claims.claim, appointment.id), whatever_hours=True
    )
    if reasons:
        raise refusal_for(reasons)
    appointment.cancelled_late, appointment.queue_number, appointment.overbooked = False, None, False
    appointment.session_id = place.session_id
