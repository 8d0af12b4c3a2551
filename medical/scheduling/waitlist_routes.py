"""The waitlist over HTTP."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, page_of, read_cursor
from medical.scheduling import booking, waitlist
from medical.scheduling.errors import AlreadyWaiting, NoHoldInGroups, NotWaiting, NotYourDiary, OfferExpired
from medical.scheduling.permissions import Permission
from medical.scheduling.routes import BOOKING_REFUSALS
from medical.scheduling.schemas import AppointmentOut, JoinWaitlist, WaitlistEntryOut, WaitlistQuery

bp = Blueprint("waitlist", __name__, url_prefix="/api/v1/waitlist")


@endpoint(
    bp.post(""),
    permission=Permission.APPOINTMENT_BOOK,
    body=JoinWaitlist,
    returns=(201, WaitlistEntryOut),
    errors=[NotFound, NotYourDiary, AlreadyWaiting, NoHoldInGroups],
    audit=Action.WAITLIST_JOINED,
    idempotent=True,
    etag=True,
)
def join(body: JoinWaitlist) -> WaitlistEntryOut:
    """Wait for a time; when one frees, whoever has waited longest is offered it."""
    return WaitlistEntryOut.of(waitlist.join(current_actor(), **body.arguments()))


@endpoint(
    bp.get(""),
    permission=Permission.APPOINTMENT_READ,
    query=WaitlistQuery,
    returns=(200, Page[WaitlistEntryOut]),
    audit=Action.WAITLIST_READ,
)
def list_entries(query: WaitlistQuery) -> Page[WaitlistEntryOut]:
    """List who waits, ordered by when they came, id."""
    rows = waitlist.list_entries(
        current_actor(),
        patient_id=query.patient_id,
        status=query.status,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )
    return page_of(rows, query.limit, WaitlistEntryOut.of, lambda entry: (entry.created_at, entry.id))


@endpoint(
    bp.get("/<uuid:entry_id>"),
    permission=Permission.APPOINTMENT_READ,
    returns=(200, WaitlistEntryOut),
    audit=Action.WAITLIST_READ,
    etag=True,
)
def get_entry(entry_id: UUID) -> WaitlistEntryOut:
    """Read what a patient waits for, and what is offered to them."""
    return WaitlistEntryOut.of(waitlist.get_entry(current_actor(), entry_id))


@endpoint(
    bp.post("/<uuid:entry_id>/accept"),
    permission=Permission.APPOINTMENT_BOOK,
    returns=(200, AppointmentOut),
    errors=[*BOOKING_REFUSALS, OfferExpired],
    audit=Action.WAITLIST_ACCEPTED,
)
def accept(entry_id: UUID) -> AppointmentOut:
    """Book the time that is offered."""
    return AppointmentOut.of(booking.accept_offer(current_actor(), entry_id))


@endpoint(
    bp.post("/<uuid:entry_id>/decline"),
    permission=Permission.APPOINTMENT_BOOK,
    returns=(200, WaitlistEntryOut),
    errors=[OfferExpired],
    audit=Action.WAITLIST_DECLINED,
    etag=True,
)
def decline(entry_id: UUID) -> WaitlistEntryOut:
    """Let the offered time pass to the next, and wait on."""
    return WaitlistEntryOut.of(waitlist.decline(current_actor(), entry_id))


@endpoint(
    bp.post("/<uuid:entry_id>/withdraw"),
    permission=Permission.APPOINTMENT_BOOK,
    returns=(200, WaitlistEntryOut),
    errors=[NotWaiting],
    audit=Action.WAITLIST_WITHDRAWN,
    if_match=True,
    etag=True,
)
def withdraw(entry_id: UUID, expected_version: int | None) -> WaitlistEntryOut:
    """Wait no more; what is offered passes to the next."""
    return WaitlistEntryOut.of(waitlist.withdraw(current_actor(), entry_id, expected_version))
