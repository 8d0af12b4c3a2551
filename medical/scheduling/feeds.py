"""Calendar feeds: made and revoked by people, read by calendar programs that know nothing but the secret address.

A feed shows what its maker may see at the moment it is read, and nothing once they may not make it any more.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, text, tuple_, update

from medical.audit import service as audit
from medical.identity import service as identity
from medical.identity.permissions import Role
from medical.people import rooms
from medical.people import service as people
from medical.people.models import Location
from medical.platform import clock
from medical.platform.authz import Actor, holds
from medical.platform.db import Scope, db, enter
from medical.platform.errors import Forbidden, NotFound
from medical.platform.ids import new_id
from medical.scheduling import ical, queries
from medical.scheduling.errors import NotYourDiary
from medical.scheduling.feed_models import CalendarFeed
from medical.scheduling.ical import Entry
from medical.scheduling.models import Allocation, Appointment, AppointmentEvent, AppointmentType
from medical.scheduling.permissions import DESK, Permission

SECRET_BYTES = 32
BACK, AHEAD = timedelta(days=30), timedelta(days=400)
MOST = 1000
"""So many appointments a feed shows, the earliest first."""
NOTED = timedelta(hours=1)

NAME_DIGEST = text("SELECT set_config('app.feed_digest', :digest, true)")


def create(
    actor: Actor,
    *,
    clinician_id: UUID | None,
    room_id: UUID | None,
    device_id: UUID | None,
    patient_id: UUID | None,
    details: bool,
) -> tuple[CalendarFeed, str]:
    """A feed of one of these, and its secret, which is kept nowhere. Raises ``NotFound`` or ``NotYourDiary``."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    feed = CalendarFeed(
        id=new_id(),
        clinician_id=clinician_id,
        room_id=room_id,
        device_id=device_id,
        patient_id=patient_id,
        details=details,
        secret_digest=_digest_of(secret),
        created_by=actor.user_id,
        created_at=clock.now(),
    )
    _ensure_may_make(actor, feed)
    db.session.add(feed)
    db.session.flush()
    audit.touch("calendar-feed", feed.id, patient_id=patient_id)
    return feed, secret


def list_feeds(limit: int, after: tuple[datetime, UUID] | None) -> Sequence[CalendarFeed]:
    """The caller's feeds, an administrator's all, oldest first, one more than ``limit`` when more follow."""
    order = (CalendarFeed.created_at, CalendarFeed.id)
    query = select(CalendarFeed).order_by(*order).limit(limit + 1)
    if after:
        query = query.where(tuple_(*order) > after)
    return db.session.scalars(query).all()


def get(feed_id: UUID) -> CalendarFeed:
    """A feed of the caller's, or an administrator any. Raises ``NotFound``."""
    feed = db.session.scalars(select(CalendarFeed).where(CalendarFeed.id == feed_id)).first()
    audit.touch("calendar-feed", feed_id, patient_id=feed.patient_id if feed else None)
    if feed is None:
        raise NotFound
    return feed


def revoke(feed_id: UUID) -> None:
    """Let a feed of the caller's, or an administrator any, be read no more. Raises ``NotFound``."""
    db.session.delete(get(feed_id))


def read(secret: str) -> bytes:
    """The calendar (RFC 5545) that the secret opens. Raises ``NotFound`` for every other, whatever the reason."""
    digest = _digest_of(secret)
    db.session.execute(NAME_DIGEST, {"digest": digest.hex()})
    feed = db.session.scalars(select(CalendarFeed).where(CalendarFeed.secret_digest == digest)).first()
    if feed is None:
        raise NotFound
    enter(Scope(feed.organization_id, feed.created_by))
    maker = identity.without_sign_in(feed.created_by)
    audit.touch("calendar-feed", feed.id, patient_id=feed.patient_id)
    try:
        if maker is None or not holds(maker, Permission.CALENDAR_FEED_EDIT):
            raise NotFound
        _ensure_may_make(maker, feed)
    except Forbidden as error:
        raise NotFound from error
    now = clock.now()
    _note_use(feed, now)
    return ical.calendar(_entries(maker, feed, now))


def _ensure_may_make(actor: Actor, feed: CalendarFeed) -> None:
    """The desk makes feeds of all, clinicians of themselves, whoever may book a patient of the patient."""
    if feed.patient_id:
        people.get_bookable_patient(actor, feed.patient_id)
        return
    own = Role.CLINICIAN in actor.roles and feed.clinician_id == actor.user_id
    if not (own or actor.roles & DESK):
        raise NotYourDiary
    if feed.clinician_id:
        people.get_clinician(feed.clinician_id)
    if feed.room_id:
        rooms.get_room(feed.room_id)
    if feed.device_id:
        rooms.get_device(feed.device_id)


def _entries(maker: Actor, feed: CalendarFeed, now: datetime) -> Sequence[Entry]:
    """What the maker sees of the appointments, each with its type, its site and when it was last changed."""
    query = (
        queries.visible_appointments(maker)
        .add_columns(AppointmentType.name, Location.name, AppointmentEvent.occurred_at)
        .join(AppointmentType, AppointmentType.id == Appointment.appointment_type_id)
        .outerjoin(Location, Location.id == Appointment.location_id)
        .join(
            AppointmentEvent,
            (AppointmentEvent.appointment_id == Appointment.id) & (AppointmentEvent.version == Appointment.version),
        )
        .where(_of(feed), Appointment.start_at >= now - BACK, Appointment.start_at < now + AHEAD)
        .order_by(Appointment.start_at, Appointment.id)
        .limit(MOST)
    )
    return [
        Entry(visit, type_name if feed.details and not visit.sensitive else None, site, changed_at)
        for visit, type_name, site, changed_at in db.session.execute(query)
    ]


def _of(feed: CalendarFeed) -> ColumnElement[bool]:
    """Whether an appointment is of whom the feed is; of a room or device, as long as it has it."""
    if feed.clinician_id:
        return queries.of_clinician(feed.clinician_id)
    if feed.patient_id:
        return Appointment.patient_id == feed.patient_id
    claimed = select(Allocation).where(Allocation.bookable_id == (feed.room_id or feed.device_id))
    return or_(
        Appointment.id.in_(claimed.with_only_columns(Allocation.appointment_id)),
        Appointment.session_id.in_(claimed.with_only_columns(Allocation.session_id)),
    )


def _note_use(feed: CalendarFeed, now: datetime) -> None:
    if feed.last_used_at is None or now - feed.last_used_at >= NOTED:
        db.session.execute(update(CalendarFeed).where(CalendarFeed.id == feed.id).values(last_used_at=now))


def _digest_of(secret: str) -> bytes:
    """What is kept of a secret; it has 256 bits, so nobody finds it by trying."""
    return sha256(secret.encode()).digest()
