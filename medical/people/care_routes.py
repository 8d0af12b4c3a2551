"""Care relationships, broken glass and explanations over HTTP."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.people import care
from medical.people.care_schemas import (
    AssignCare,
    BreakGlass,
    CareOut,
    EndCare,
    ExplainQuery,
    ExplanationOut,
    GrantOut,
    LinkOut,
    ReviewGlass,
    ReviewQuery,
    ReviewStatus,
)
from medical.people.errors import AlreadyReviewed, CareEnded, NotACarer, NotYours, OwnRecord, ToOneself
from medical.people.permissions import Permission
from medical.platform import authz
from medical.platform.authz import current_actor
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

relationships = Blueprint("care", __name__, url_prefix="/api/v1/patients/<uuid:patient_id>")
glass = Blueprint("break_glass", __name__, url_prefix="/api/v1/break-glass")
explanations = Blueprint("access", __name__, url_prefix="/api/v1/access")


@endpoint(
    relationships.post("/care-relationships"),
    permission=Permission.CARE_ASSIGN,
    body=AssignCare,
    returns=(201, CareOut),
    errors=[NotACarer, NotYours, ToOneself],
    audit=Action.CARE_ASSIGNED,
    idempotent=True,
)
def assign_care(patient_id: UUID, body: AssignCare) -> CareOut:
    """Give a clinician or nurse the care of a patient, and with it sight of the record."""
    return CareOut.of(care.assign_care(current_actor(), patient_id, **body.arguments()))


@endpoint(
    relationships.get("/care-relationships"),
    permission=Permission.CARE_READ,
    query=PageQuery,
    returns=(200, Page[CareOut]),
    audit=Action.CARE_READ,
)
def list_care(patient_id: UUID, query: PageQuery) -> Page[CareOut]:
    """List a patient's assignments and referrals, newest first, then by id."""
    rows = care.list_care(current_actor(), patient_id, query.limit, read_cursor(query.cursor, tuple[datetime, UUID]))
    return page_of(rows, query.limit, CareOut.of, lambda one: (one.starts_at, one.id))


@endpoint(
    relationships.post("/care-relationships/<uuid:relationship_id>/end"),
    permission=Permission.CARE_END,
    body=EndCare,
    returns=(200, CareOut),
    errors=[CareEnded, NotYours],
    audit=Action.CARE_ENDED,
)
def end_care(patient_id: UUID, relationship_id: UUID, body: EndCare) -> CareOut:
    """End a relationship; sight of the record ends with it, on the next request."""
    return CareOut.of(care.end_care(current_actor(), patient_id, relationship_id, body.reason))


@endpoint(
    relationships.post("/break-glass"),
    permission=Permission.BREAK_GLASS_OPEN,
    body=BreakGlass,
    returns=(201, GrantOut),
    errors=[OwnRecord],
    audit=Action.GLASS_BROKEN,
)
def break_glass(patient_id: UUID, body: BreakGlass) -> GrantOut:
    """See this patient's record for an hour without caring for them; somebody else will review it.

    While one lasts, asking again gives the same. The patient's access log shows it.
    """
    arguments = body.arguments()
    return GrantOut.of(care.break_glass(current_actor(), patient_id, **arguments))


@endpoint(
    glass.get("/reviews"),
    permission=Permission.BREAK_GLASS_REVIEW,
    query=ReviewQuery,
    returns=(200, Page[GrantOut]),
    audit=Action.GLASS_LISTED,
)
def list_reviews(query: ReviewQuery) -> Page[GrantOut]:
    """List broken glass that waits for a review, or has one: others', oldest first, then by id."""
    rows = care.list_reviews(
        current_actor(),
        done=query.status is ReviewStatus.DONE,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )
    return page_of(rows, query.limit, GrantOut.of, lambda grant: (grant.starts_at, grant.id))


@endpoint(
    glass.post("/<uuid:grant_id>/review"),
    permission=Permission.BREAK_GLASS_REVIEW,
    body=ReviewGlass,
    returns=(200, GrantOut),
    errors=[AlreadyReviewed, ToOneself],
    audit=Action.GLASS_REVIEWED,
)
def review_glass(grant_id: UUID, body: ReviewGlass) -> GrantOut:
    """Say whether somebody else was right to break the glass."""
    return GrantOut.of(care.review_glass(current_actor(), grant_id, **body.arguments()))


@endpoint(
    explanations.get("/explain"),
    permission=Permission.ACCESS_EXPLAIN,
    query=ExplainQuery,
    returns=(200, ExplanationOut),
    errors=[NotFound],
    audit=Action.ACCESS_EXPLAINED,
)
def explain_access(query: ExplainQuery) -> ExplanationOut:
    """Say why a user may or may not use a permission: account, roles, relationships, grants."""
    if query.permission not in authz.known_permissions():
        raise InvalidRequest([FieldProblem("/permission", "is not a permission of this program")])
    allowed, chain = care.explain_access(**query.arguments())
    return ExplanationOut(allowed=allowed, chain=[LinkOut.of(link) for link in chain])
