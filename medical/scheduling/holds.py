"""Holds: a time that nobody else can book for some minutes, while somebody makes up their mind."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import delete, select, text

from medical.audit import service as audit
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import claims, policy, service, times
from medical.scheduling.claims import Claim
from medical.scheduling.errors import NoHoldInGroups, NotBookable, TooManyHolds, refusal_for
from medical.scheduling.models import Hold
from medical.scheduling.times import Take, Visit, Wish

LIFETIME = timedelta(minutes=5)
MOST = 5
"""So many one caller can have at once."""

ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('holds of ' || CAST(:caller AS text), 0))")
"""A caller's holds are placed one after the other, so that they are counted rightly."""

LIVE = text("SELECT count(*) FROM hold WHERE held_by = :caller AND expires_at > :now")
SWEEP = text(
    """
    DELETE FROM hold h USING (
        SELECT id FROM hold WHERE organization_id = current_organization() AND expires_at <= :now
        ORDER BY expires_at LIMIT 50 FOR UPDATE SKIP LOCKED
    ) AS old
    WHERE h.id = old.id
    """
)
"""Remove expired holds and their claims; they were in nobody's way, so this only tidies."""


def place(
    actor: Actor,
    *,
    appointment_type_id: UUID,
    clinician_id: UUID,
    start: datetime,
    duration_minutes: int | None = None,
) -> Hold:
    """A new hold of this time for the caller.

    Raises ``NotFound``, ``NotYourDiary``, ``NoHoldInGroups``, ``TooManyHolds``, or ``NotBookable`` with every reason.
    """
    policy.ensure_can_hold(actor, clinician_id)
    kind = service.get_appointment_type(appointment_type_id)
    policy.ensure_fits(kind, duration_minutes)
    if kind.group_capacity:
        raise NoHoldInGroups
    _ensure_few(actor)
    visit = Wish(kind, start, minutes=duration_minutes).of(clinician_id)
    hold = Hold(
        id=new_id(),
        clinician_id=clinician_id,
        appointment_type_id=appointment_type_id,
        start_at=start,
        end_at=visit.end,
        held_by=actor.user_id,
        expires_at=clock.now() + LIFETIME,
    )
    _, reasons = times.attempt(visit, None, taking(hold))
    if reasons:
        raise refusal_for(reasons, partial(times.next_free, visit, [clinician_id], None, None))
    sweep()
    audit.touch("hold", hold.id)
    return hold


def taking(hold: Hold) -> Take:
    """Claims the time of this hold, and writes the hold."""

    def take(wanted: Sequence[Claim]) -> list[type[NotBookable]]:
        db.session.add(hold)
        db.session.flush()
        return claims.claim_for_hold(hold.id, wanted, hold.expires_at)

    return take


def give_up(actor: Actor, hold_id: UUID) -> None:
    """End a hold of the caller's; its time is free again. Raises ``NotFound``."""
    audit.touch("hold", hold_id)
    gone = delete(Hold).where(Hold.id == hold_id, Hold.held_by == actor.user_id).returning(Hold.id)
    if db.session.scalar(gone) is None:
        raise NotFound


def find(actor: Actor, hold_id: UUID) -> Hold | None:
    """A hold of the caller's, live or not."""
    return db.session.scalars(select(Hold).where(Hold.id == hold_id, Hold.held_by == actor.user_id)).one_or_none()


def use(actor: Actor, hold_id: UUID, visit: Visit) -> bool:
    """End a hold because its time is about to be booked; whether it was the caller's, for just this, and live.

    The caller has the locks on the time, so nobody slips in between.
    """
    used = delete(Hold).where(
        Hold.id == hold_id,
        Hold.held_by == actor.user_id,
        Hold.clinician_id == visit.clinician_id,
        Hold.appointment_type_id == visit.kind.id,
        Hold.start_at == visit.start,
        Hold.end_at == visit.end,
        Hold.expires_at > clock.now(),
    )
    return db.session.scalar(used.returning(Hold.id)) is not None


def use_offered(hold_id: UUID) -> bool:
    """End the hold of an offer because its time is about to be booked; whether it was live."""
    used = delete(Hold).where(Hold.id == hold_id, Hold.held_by.is_(None), Hold.expires_at > clock.now())
    return db.session.scalar(used.returning(Hold.id)) is not None


def sweep() -> None:
    """Remove some of the organisation's expired holds.

    Wait for nobody's time after it in the same transaction: whoever wants the time of one waits for its end.
    """
    db.session.execute(SWEEP, {"now": clock.now()})


def _ensure_few(actor: Actor) -> None:
    db.session.execute(ONE_AT_A_TIME, {"caller": actor.user_id})
    live = db.session.scalar(LIVE, {"caller": actor.user_id, "now": clock.now()})
    if live >= MOST:
        raise TooManyHolds
