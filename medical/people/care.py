"""Who cares for whom, and the glass that is broken where nobody does. The rule itself is SQL (migration 0006)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import exists, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from medical.audit import service as audit
from medical.identity.models import RoleGrant, User
from medical.identity.permissions import Role, grantable
from medical.people import queries, service
from medical.people.errors import AlreadyReviewed, CareEnded, NotACarer, NotYours, OwnRecord, ToOneself
from medical.people.models import BreakGlassGrant, CareRelationship
from medical.platform import authz, clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound
from medical.platform.ids import new_id
from medical.platform.scopes import parsed_all

GLASS_LIFETIME = timedelta(hours=1)
"""How long a broken glass gives sight of the patient."""
LONGEST_DELEGATION = timedelta(days=90)


class Outcome(StrEnum):
    """What a review finds."""

    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


class Link(Struct, frozen=True):
    """One thing that decides whether somebody may act on a patient: what it is, and whether it speaks for it."""

    kind: str
    holds: bool
    detail: str
    source_id: UUID | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None


def assign_care(
    actor: Actor,
    patient_id: UUID,
    *,
    user_id: UUID,
    origin: str,
    reason: str,
    starts_at: datetime | None,
    ends_at: datetime | None,
) -> CareRelationship:
    """Give a clinician or nurse the care of a patient, and so sight of the record.

    Administrators give anybody's; who cares for the patient, by a visit or an assignment, gives it for 90 days
    at most. Raises ``NotFound``, ``ToOneself``, ``NotYours``, ``NotACarer`` or ``InvalidRequest``.
    """
    service.get_visible_patient(actor, patient_id)
    if user_id == actor.user_id:
        raise ToOneself
    begins = starts_at or clock.now()
    if ends_at and ends_at <= begins:
        raise InvalidRequest([FieldProblem("/ends_at", "must lie after starts_at")])
    if not actor.roles & queries.DESK:
        _ensure_delegable(actor, patient_id, begins, ends_at)
    _ensure_carer(user_id)
    relationship = CareRelationship(
        id=new_id(),
        patient_id=patient_id,
        user_id=user_id,
        origin=origin,
        reason=reason,
        starts_at=begins,
        ends_at=ends_at,
        created_by=actor.user_id,
    )
    db.session.add(relationship)
    db.session.flush()
    audit.touch("care-relationship", relationship.id, patient_id=patient_id)
    return relationship


LIVE = text(
    "SELECT kind, origin, source_id, starts_at, nullif(ends_at, 'infinity') AS ends_at,"
    " starts_at <= now() AND now() < ends_at AS live"
    " FROM care(:user_id) WHERE patient_id = :patient_id ORDER BY starts_at DESC, source_id"
)


def _ensure_delegable(actor: Actor, patient_id: UUID, begins: datetime, ends_at: datetime | None) -> None:
    """Raise ``NotYours`` unless the caller has care of their own to lend for a while."""
    live = db.session.execute(LIVE, {"user_id": actor.user_id, "patient_id": patient_id}).all()
    own = any(row.live and row.kind == "relationship" for row in live)
    if not own or ends_at is None or ends_at > begins + LONGEST_DELEGATION:
        raise NotYours


def _ensure_carer(user_id: UUID) -> None:
    """Raise ``NotACarer`` unless the user is an active clinician or nurse; ``NotFound`` for nobody of ours."""
    cares = exists().where(RoleGrant.user_id == User.id, RoleGrant.role.in_(queries.CARERS))
    found = db.session.execute(select(User.active, cares).where(User.id == user_id)).first()
    if found is None:
        raise NotFound("There is no such user in your organisation.")
    if not all(found):
        raise NotACarer


def list_care(actor: Actor, patient_id: UUID, limit: int, after: tuple[datetime, UUID] | None) -> Sequence[Any]:
    """Assignments and referrals of a visible patient, newest first, one more than ``limit`` if more follow."""
    service.get_visible_patient(actor, patient_id)
    order = (CareRelationship.starts_at.desc(), CareRelationship.id.desc())
    query = select(CareRelationship).where(CareRelationship.patient_id == patient_id).order_by(*order)
    if after:
        query = query.where(tuple_(CareRelationship.starts_at, CareRelationship.id) < after)
    return db.session.scalars(query.limit(limit + 1)).all()


def end_care(actor: Actor, patient_id: UUID, relationship_id: UUID, reason: str) -> CareRelationship:
    """End a relationship now. Raises ``NotFound``, ``NotYours`` or ``CareEnded``."""
    service.get_visible_patient(actor, patient_id)
    query = select(CareRelationship).where(
        CareRelationship.patient_id == patient_id, CareRelationship.id == relationship_id
    )
    relationship = db.session.scalars(query.with_for_update()).first()
    if relationship is None:
        raise NotFound
    if not actor.roles & queries.DESK and actor.user_id not in (relationship.created_by, relationship.user_id):
        raise NotYours("You can end what you gave, and what was given to you.")
    if relationship.ended_at:
        raise CareEnded
    relationship.ended_at, relationship.ended_by, relationship.end_reason = clock.now(), actor.user_id, reason
    db.session.flush()
    audit.touch("care-relationship", relationship.id, patient_id=patient_id)
    return relationship


def break_glass(actor: Actor, patient_id: UUID, *, reason_code: str, reason: str) -> BreakGlassGrant:
    """Sight of a patient of the organisation for an hour; while one lasts, asking again gives the same.

    Raises ``NotFound`` or ``OwnRecord``.
    """
    audit.touch("patient", patient_id, patient_id=patient_id)
    audit.for_purpose(service.BREAK_GLASS)
    known = queries.known_patient(patient_id)
    if known is None:
        raise NotFound
    if known.user_id == actor.user_id:
        service.alarm_at_own_record(actor, known)
        raise OwnRecord
    now = clock.now()
    values = {
        "id": new_id(),
        "organization_id": actor.organization_id,
        "patient_id": patient_id,
        "user_id": actor.user_id,
        "reason_code": reason_code,
        "reason": reason,
        "starts_at": now,
        "expires_at": now + GLASS_LIFETIME,
    }
    db.session.execute(insert(BreakGlassGrant).values(values).on_conflict_do_nothing())
    live = select(BreakGlassGrant).where(
        BreakGlassGrant.user_id == actor.user_id,
        BreakGlassGrant.patient_id == patient_id,
        BreakGlassGrant.expires_at > now,
    )
    grant = db.session.scalars(live.order_by(BreakGlassGrant.starts_at.desc()).limit(1)).one()
    audit.touch("break-glass-grant", grant.id, patient_id=patient_id)
    return grant


def list_reviews(
    actor: Actor, *, done: bool, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[BreakGlassGrant]:
    """Broken glass of others, reviewed or waiting, oldest first, one more than ``limit`` when more follow."""
    order = (BreakGlassGrant.starts_at, BreakGlassGrant.id)
    reviewed = BreakGlassGrant.reviewed_at.is_not(None) if done else BreakGlassGrant.reviewed_at.is_(None)
    query = select(BreakGlassGrant).where(reviewed, BreakGlassGrant.user_id != actor.user_id).order_by(*order)
    if after:
        query = query.where(tuple_(*order) > after)
    rows = db.session.scalars(query.limit(limit + 1)).all()
    for grant in rows[:limit]:
        audit.touch("break-glass-grant", grant.id, patient_id=grant.patient_id)
    return rows


def review_glass(actor: Actor, grant_id: UUID, *, outcome: Outcome, comment: str) -> BreakGlassGrant:
    """Say what one thinks of somebody else's broken glass, once.

    Raises ``NotFound``, ``ToOneself`` or ``AlreadyReviewed``.
    """
    values = {"reviewed_at": clock.now(), "reviewed_by": actor.user_id, "outcome": outcome, "comment": comment}
    waiting = (BreakGlassGrant.reviewed_at.is_(None), BreakGlassGrant.user_id != actor.user_id)
    reviewed = db.session.scalars(
        update(BreakGlassGrant)
        .where(BreakGlassGrant.id == grant_id, *waiting)
        .values(values)
        .returning(BreakGlassGrant)
    ).first()
    grant = reviewed or db.session.get(BreakGlassGrant, grant_id)
    if grant is None:
        raise NotFound
    audit.touch("break-glass-grant", grant.id, patient_id=grant.patient_id)
    if grant.user_id == actor.user_id:
        raise ToOneself
    if reviewed is None:
        raise AlreadyReviewed
    return grant


ROLES = text(
    "SELECT u.active, ARRAY(SELECT role FROM role_grant g WHERE g.user_id = u.id ORDER BY role) AS roles, c.scopes"
    " FROM users u LEFT JOIN service_client c ON c.id = u.id WHERE u.id = :user_id"
)
SIGHT = text(
    "SELECT sees_every_patient(:user_id) AS everybody, :patient_id IN (SELECT own_patients(:user_id)) AS own,"
    " :patient_id IN (SELECT seen_patients(:user_id)) AS seen"
)

PROXIES = text(
    "SELECT id, basis, starts_at, ends_at, revoked_at IS NULL AND :patient_id IN"
    " (SELECT proxied_patients(:user_id, 'record')) AS live FROM patient_proxy"
    " WHERE user_id = :user_id AND patient_id = :patient_id ORDER BY proposed_at DESC, id"
)


def explain_access(user_id: UUID, permission: str, patient_id: UUID | None) -> tuple[bool, list[Link]]:
    """Whether a user may use a permission, on a patient if one is given, and each thing that decides it.

    Asks what the policies of row-level security ask. Raises ``NotFound`` for a user who is not of the organisation.
    """
    account = db.session.execute(ROLES, {"user_id": user_id}).first()
    if account is None:
        raise NotFound("There is no such user in your organisation.")
    audit.touch("user", user_id, patient_id=patient_id)
    chain = [Link("account", account.active, "the account is active" if account.active else "the account is closed")]
    holding = [role for role in account.roles if _lets(role, permission, client=account.scopes is not None)]
    chain += [Link("role", role in holding, f"the role {role} {_allows(role in holding)} it") for role in account.roles]
    if not account.roles:
        chain.append(Link("role", False, "the user holds no role"))
    allowed = account.active and bool(holding)
    if account.scopes is not None:
        smart = ", ".join(map(str, parsed_all(account.scopes)))
        scoped = permission in account.scopes or bool(smart)
        said = f"allow it within FHIR, for {smart}" if smart else "name it" if scoped else "do not name it"
        chain.append(Link("scope", scoped, f"the client's scopes {said}"))
        allowed = allowed and scoped
    if patient_id:
        seen, links = _explain_sight(user_id, patient_id)
        allowed, chain = allowed and seen, chain + links
    return allowed, chain


def _lets(role: str, permission: str, *, client: bool) -> bool:
    """Whether a role allows a permission; the role of service clients gives people what is everybody's."""
    if role == Role.SERVICE and not client:
        return permission not in grantable() and permission in authz.permissions_of(role)
    return permission in authz.permissions_of(role)


def _allows(holds: bool) -> str:
    return "allows" if holds else "does not allow"


def _explain_sight(user_id: UUID, patient_id: UUID) -> tuple[bool, list[Link]]:
    """Whether the user sees the patient, and by what."""
    if queries.known_patient(patient_id) is None:
        return False, [Link("organization", False, "there is no such patient in the organisation")]
    values = {"user_id": user_id, "patient_id": patient_id}
    sight = db.session.execute(SIGHT, values).one()
    links = []
    if sight.everybody:
        links.append(Link("organization", True, "a role of theirs sees the demographics of every patient"))
    if sight.own:
        links.append(Link("own", True, "it is their own record"))
    for row in db.session.execute(PROXIES, values):
        detail = f"acts for the patient by {row.basis}: {'holds now' if row.live else 'does not hold now'}"
        links.append(Link("proxy", row.live, detail, row.id, row.starts_at, row.ends_at))
    for row in db.session.execute(LIVE, values):
        detail = f"{row.origin}: {'holds now' if row.live else 'does not hold now'}"
        links.append(Link(row.kind, row.live and sight.seen, detail, row.source_id, row.starts_at, row.ends_at))
    if not links:
        links.append(Link("relationship", False, "no visit, assignment, referral or broken glass"))
    return bool(sight.everybody or sight.seen), links
