"""The trail over HTTP: for auditors, and for patients of their own record. Reading it leaves a trail too."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit import queries, reading, service
from medical.audit.events import Action
from medical.audit.permissions import Permission
from medical.audit.schemas import AccessOut, EventOut, EventQuery, VerifiedOut, VerifyQuery
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

trail = Blueprint("audit", __name__, url_prefix="/api/v1/audit")
accesses = Blueprint("access_log", __name__, url_prefix="/api/v1/patients/<uuid:patient_id>")


@endpoint(
    trail.get("/events"),
    permission=Permission.AUDIT_READ,
    query=EventQuery,
    returns=(200, Page[EventOut]),
    audit=Action.AUDIT_READ,
)
def list_events(query: EventQuery) -> Page[EventOut]:
    """List the organisation's events, newest first, then by id; no clinical text is in them."""
    if query.patient_id:
        service.touch("audit", None, patient_id=query.patient_id)
    rows = queries.list_events(
        start=query.start,
        until=query.until,
        actor_id=query.actor_id,
        patient_id=query.patient_id,
        action=query.action,
        outcome=query.outcome,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )
    return page_of(rows, query.limit, EventOut.of, lambda row: (row.AuditEvent.occurred_at, row.AuditEvent.id))


@endpoint(
    trail.get("/verify"),
    permission=Permission.AUDIT_READ,
    query=VerifyQuery,
    returns=(200, VerifiedOut),
    audit=Action.AUDIT_VERIFIED,
)
def verify(query: VerifyQuery) -> VerifiedOut:
    """Whether the last part of the trail is whole, and where it first is not; `next_before` leads to what is older."""
    return VerifiedOut.of(reading.verify(query.before, query.seals))


@endpoint(
    accesses.get("/access-log"),
    permission=Permission.ACCESS_LOG_READ,
    query=PageQuery,
    returns=(200, Page[AccessOut]),
    errors=[NotFound],
    audit=Action.ACCESS_LOG_READ,
)
def list_accesses(patient_id: UUID, query: PageQuery) -> Page[AccessOut]:
    """Who opened or changed a record, when, in which role and why, newest first; for the patient and for auditors."""
    after = read_cursor(query.cursor, tuple[datetime, UUID])
    rows = reading.list_accesses(current_actor(), patient_id, query.limit, after)
    return page_of(rows, query.limit, AccessOut.of, lambda row: (row.occurred_at, row.id))
