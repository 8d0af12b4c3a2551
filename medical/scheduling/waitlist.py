"""The waitlist: when a time frees, whoever has waited longest for such a one may have it, until a deadline.

The offered time is held, so nobody else gets it meanwhile. Declined or expired, it is offered to the next.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, false, func, or_, select, text, tuple_, update

from medical.audit import service as audit
from medical.identity.permissions import Role
from medical.identity.service import ensure_version
from medical.people import service as people
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, flush_or_raise, unattended
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.scheduling import claims, holds, limits, policy, service, times
from medical.scheduling.claims import Claim
from medical.scheduling.errors import AlreadyWaiting, NoHoldInGroups, NotWaiting, OfferExpired
from medical.scheduling.models import Appointment, Hold
from medical.scheduling.permissions import DESK
from medical.scheduling.times import Wish
from medical.scheduling.waitlist_models import Reply, Waiting, WaitlistEntry, WaitlistOffer

DEADLINE = timedelta(hours=2)
"""So long an offer stands, but not beyond the start."""
TRIED = 20
"""So many of those who wait are considered for one time."""

FITTING = text(
    """
    SELECT e.id FROM waitlist_entry e
    WHERE e.organization_id = current_organization() AND e.status = 'waiting'
      AND e.starts_from <= :start AND e.starts_before > :start
      AND (e.clinician_ids IS NULL OR CAST(:clinician_id AS uuid) = ANY (e.clinician_ids))
      AND NOT EXISTS (
          SELECT FROM waitlist_offer o
          WHERE o.entry_id = e.id
            AND (o.reply = 'open' AND o.expires_at > :now OR o.clinician_id = :clinician_id AND o.start_at = :start)
      )
    ORDER BY e.created_at, e.id LIMIT :tried
    FOR UPDATE SKIP LOCKED
    """
)
"""Who waits for a time like this one and has not been offered it, in the order in which they came."""

ANY_FITTING = text(
    """
    SELECT DISTINCT freed.clinician_id, freed.start_at
    FROM unnest(CAST(:clinician_ids AS uuid[]), CAST(:starts AS timestamptz[])) AS freed (clinician_id, start_at)
    JOIN waitlist_entry e ON e.organization_id = current_organization() AND e.status = 'waiting'
     AND e.starts_from <= freed.start_at AND e.starts_before > freed.start_at
     AND (e.clinician_ids IS NULL OR freed.clinician_id = ANY (e.clinician_ids))
    ORDER BY freed.start_at, freed.clinician_id
    """
)
"""Those of several times for which anybody waits."""

LAPSED = text(
    """
    SELECT o.id FROM waitlist_offer o
    WHERE o.organization_id = current_organization() AND o.reply = 'open' AND o.expires_at <= :now
    ORDER BY o.expires_at, o.id LIMIT 1 FOR UPDATE SKIP LOCKED
    """
)


def join(
    actor: Actor,
    *,
    patient_id: UUID,
    appointment_type_id: UUID,
    clinician_ids: Sequence[UUID] | None,
    starts_from: datetime,
    starts_before: datetime,
) -> WaitlistEntry:
    """Put a patient on the list. Raises ``NotFound``, ``NotYourDiary``, ``NoHoldInGroups`` or ``AlreadyWaiting``."""
    patient = people.get_bookable_patient(actor, patient_id)
    if service.get_appointment_type(appointment_type_id).group_capacity:
        raise NoHoldInGroups
    only = policy.only_choice(actor, patient.spoken_for)
    for clinician_id in clinician_ids or ([only] if only else ()):
        people.get_clinician(clinician_id)
        policy.ensure_can_book(actor, patient.spoken_for, clinician_id)
    entry = WaitlistEntry(
        id=new_id(),
        patient_id=patient.id,
        appointment_type_id=appointment_type_id,
        clinician_ids=list(clinician_ids) if clinician_ids else [only] if only else None,
        starts_from=starts_from,
        starts_before=starts_before,
        status=Waiting.WAITING,
        created_by=actor.user_id,
    )
    db.session.add(entry)
    flush_or_raise({"uq_waitlist_entry_patient_id_appointment_type_id": AlreadyWaiting})
    audit.touch("waitlist-entry", entry.id, patient_id=entry.patient_id)
    return entry


def list_entries(
    actor: Actor, *, patient_id: UUID | None, status: str | None, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[WaitlistEntry]:
    """Entries the actor may see, in the order in which they came, one more than ``limit`` when more follow."""
    query = _visible(actor).order_by(WaitlistEntry.created_at, WaitlistEntry.id).limit(limit + 1)
    if patient_id:
        query = query.where(WaitlistEntry.patient_id == patient_id)
    if status:
        query = query.where(WaitlistEntry.status == status)
    if after:
        query = query.where(tuple_(WaitlistEntry.created_at, WaitlistEntry.id) > after)
    entries = db.session.scalars(query).all()
    for entry in entries[:limit]:
        audit.touch("waitlist-entry", None, patient_id=entry.patient_id)
    return _with_offers(entries)


def get_entry(actor: Actor, entry_id: UUID, *, lock: bool = False) -> WaitlistEntry:
    """An entry the actor may see. Raises ``NotFound`` for all others."""
    query = _visible(actor).where(WaitlistEntry.id == entry_id)
    entry = db.session.scalars(query.with_for_update() if lock else query).first()
    audit.touch("waitlist-entry", entry_id, patient_id=entry.patient_id if entry else None)
    if entry is None:
        raise NotFound
    _with_offers([entry])
    return entry


def take_offer(actor: Actor, entry_id: UUID) -> tuple[WaitlistEntry, WaitlistOffer]:
    """End the wait because the offered time is about to be booked. Raises ``NotFound`` or ``OfferExpired``."""
    entry = get_entry(actor, entry_id, lock=True)
    offer = _ensure_offered(entry)
    offer.reply, entry.status = Reply.ACCEPTED, Waiting.BOOKED
    db.session.flush()
    return entry, offer


def decline(actor: Actor, entry_id: UUID) -> WaitlistEntry:
    """Let the offered time pass to the next, and wait on. Raises ``NotFound`` or ``OfferExpired``."""
    entry = get_entry(actor, entry_id, lock=True)
    _pass_on(_ensure_offered(entry), Reply.DECLINED)
    entry.offer = None
    return entry


def withdraw(actor: Actor, entry_id: UUID, expected_version: int | None) -> WaitlistEntry:
    """Wait no more; what was offered passes to the next. Raises ``NotFound``, ``Stale`` or ``NotWaiting``."""
    entry = get_entry(actor, entry_id, lock=True)
    ensure_version(entry.version, expected_version)
    if entry.status != Waiting.WAITING:
        raise NotWaiting
    offer, entry.offer, entry.status = entry.offer, None, Waiting.WITHDRAWN
    db.session.flush()
    if offer:
        _pass_on(offer, Reply.DECLINED)
    return entry


def pass_on_lapsed() -> bool:
    """Offer the time of one offer whose deadline passed to the next; whether there was one.

    For upkeep, within an organisation and for no user: one to a transaction, so that it waits for one
    person's time at most.
    """
    offer_id = db.session.scalar(LAPSED, {"now": clock.now()})
    if offer_id is None:
        return False
    _pass_on(db.session.get_one(WaitlistOffer, offer_id), Reply.EXPIRED)
    return True


def offer_freed(clinician_ids: Iterable[UUID], start: datetime) -> None:
    """Offer each of these clinicians' time, which just became free, to whoever has waited longest for such a one.

    The caller has the locks on their time since before it freed it.
    """
    if start <= clock.now():
        return
    with unattended():
        for clinician_id in clinician_ids:
            fitting = {"clinician_id": clinician_id, "start": start, "tried": TRIED, "now": clock.now()}
            for entry_id in db.session.scalars(FITTING, fitting).all():
                if _offer(db.session.get_one(WaitlistEntry, entry_id), clinician_id, start):
                    break


def offer_each_freed(freed: Sequence[tuple[UUID, datetime]]) -> None:
    """The same for several times, of clinicians on whose time the caller has the lock."""
    values = {"clinician_ids": [one for one, _ in freed], "starts": [start for _, start in freed]}
    with unattended():
        awaited = db.session.execute(ANY_FITTING, values).all()
    for clinician_id, start in awaited:
        offer_freed([clinician_id], start)


def _offer(entry: WaitlistEntry, clinician_id: UUID, start: datetime) -> bool:
    """Hold the time for the entry until the deadline; whether it could be had, and suits."""
    now = clock.now()
    if _with_offers([entry])[0].offer:
        return False  # made since the list was read, by whoever had the entry's lock before
    kind = service.get_appointment_type(entry.appointment_type_id)
    visit = Appointment(id=new_id(), patient_id=entry.patient_id)
    end = start + timedelta(minutes=kind.duration_minutes)
    if claims.busy([Claim(entry.patient_id, "patient", start, end)]) or limits.reached(
        kind, visit, clinician_id, start
    ):
        return False
    hold = Hold(
        id=new_id(),
        clinician_id=clinician_id,
        appointment_type_id=kind.id,
        start_at=start,
        end_at=end,
        held_by=None,
        expires_at=min(now + DEADLINE, start),
    )
    try:
        _, reasons = times.attempt(Wish(kind, start).of(clinician_id), None, holds.taking(hold))
    except NotFound:
        return False  # the clinician works here no more
    if reasons:
        db.session.execute(delete(Hold).where(Hold.id == hold.id))
        return False
    _close_lapsed(entry, now)
    db.session.add(
        WaitlistOffer(
            id=new_id(),
            entry_id=entry.id,
            hold_id=hold.id,
            clinician_id=clinician_id,
            start_at=start,
            end_at=end,
            expires_at=hold.expires_at,
        )
    )
    db.session.flush()
    return True


def _close_lapsed(entry: WaitlistEntry, now: datetime) -> None:
    """Close an offer whose deadline passed before upkeep came to it; its time has been free to all since then."""
    lapsed = update(WaitlistOffer).where(
        WaitlistOffer.entry_id == entry.id, WaitlistOffer.reply == Reply.OPEN, WaitlistOffer.expires_at <= now
    )
    db.session.execute(lapsed.values(reply=Reply.EXPIRED))


def _pass_on(offer: WaitlistOffer, reply: Reply) -> None:
    """Close an offer, and make it to the next."""
    claims.lock([offer.clinician_id])
    offer.reply = reply
    db.session.flush()
    db.session.execute(delete(Hold).where(Hold.id == offer.hold_id))
    offer_freed([offer.clinician_id], offer.start_at)


def _ensure_offered(entry: WaitlistEntry) -> WaitlistOffer:
    """The entry's offer; raises ``OfferExpired`` when it has none, or its deadline passed."""
    if entry.offer is None:
        raise OfferExpired
    return entry.offer


def _with_offers(entries: Sequence[WaitlistEntry]) -> Sequence[WaitlistEntry]:
    """The entries, each with its open offer."""
    query = select(WaitlistOffer).where(
        WaitlistOffer.entry_id.in_([entry.id for entry in entries]),
        WaitlistOffer.reply == Reply.OPEN,
        WaitlistOffer.expires_at > clock.now(),
    )
    offers = {offer.entry_id: offer for offer in db.session.scalars(query)}
    for entry in entries:
        entry.offer = offers.get(entry.id)
    return entries


def _visible(actor: Actor) -> Select[WaitlistEntry]:
    """The entries this actor may see: the desk all, patients their own and of those they act for, others their own."""
    query = select(WaitlistEntry)
    if actor.roles & DESK:
        return query
    seen: list[ColumnElement[bool]] = [false(), WaitlistEntry.created_by == actor.user_id]
    if Role.PATIENT in actor.roles:
        proxied = func.proxied_patients(actor.user_id, "appointments")
        seen.append(WaitlistEntry.patient_id.in_(select(func.own_patients(actor.user_id))))
        seen.append(WaitlistEntry.patient_id.in_(select(proxied)))
    return query.where(or_(*seen))
