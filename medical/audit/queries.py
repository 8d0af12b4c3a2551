"""What is read of the trail: by auditors, by patients of their own record, and to see whether it is whole."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, column, select, table, text, tuple_

from medical.audit.export import OWN_LINKS, SEALS
from medical.audit.models import AuditEvent, AuditLink
from medical.platform.db import db, scope_organization

USERS = table("users", column("id"), column("organization_id"), column("given_name"), column("family_name"))
"""As much of an account as its name; the domain of accounts lies above this one."""


def list_events(
    *,
    start: datetime | None,
    until: datetime | None,
    actor_id: UUID | None,
    patient_id: UUID | None,
    action: str | None,
    outcome: str | None,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> Sequence[Row[Any]]:
    """Events of the organisation that fit all that is given, newest first, one more than ``limit`` if more follow."""
    query = _events()
    if start:
        query = query.where(AuditEvent.occurred_at >= start)
    if until:
        query = query.where(AuditEvent.occurred_at < until)
    wanted = {"actor_id": actor_id, "patient_id": patient_id, "action": action, "outcome": outcome}
    query = query.filter_by(**{name: value for name, value in wanted.items() if value is not None})
    if after:
        query = query.where(tuple_(AuditEvent.occurred_at, AuditEvent.id) < after)
    return db.session.execute(query.limit(limit + 1)).all()


def _events() -> Select[Any]:
    return (
        select(AuditEvent, USERS.c.given_name, USERS.c.family_name, AuditLink.position)
        .select_from(AuditEvent)
        .outerjoin(USERS, (USERS.c.id == AuditEvent.actor_id) & (USERS.c.organization_id == AuditEvent.organization_id))
        .outerjoin(AuditLink, AuditLink.event_id == AuditEvent.id)
        .where(AuditEvent.organization_id == scope_organization())
        .order_by(AuditEvent.occurred_at.desc(), AuditEvent.id.desc())
    )


IS_OWN = text("SELECT :patient_id IN (SELECT own_patients(:user_id))")
IS_OURS = text("SELECT EXISTS (SELECT FROM patient_cards(:patient_id))")

ACCESSES = text(
    """
    SELECT e.id, e.occurred_at, e.action, e.outcome, e.code, e.actor_roles, e.purpose, u.given_name, u.family_name,
           e.actor_id IS NOT NULL AND e.actor_id = p.user_id AS own, g.reason_code
    FROM audit_event e
    LEFT JOIN users u ON u.id = e.actor_id AND u.organization_id = e.organization_id
    LEFT JOIN patient p ON p.id = e.patient_id AND p.organization_id = e.organization_id
    LEFT JOIN LATERAL (
        SELECT b.reason_code FROM break_glass_grant b
        WHERE b.organization_id = e.organization_id AND b.patient_id = e.patient_id AND b.user_id = e.actor_id
          AND e.occurred_at >= b.starts_at AND e.occurred_at < b.expires_at
        LIMIT 1
    ) g ON true
    WHERE e.organization_id = current_organization() AND e.patient_id = :patient_id
      AND (e.outcome = 'success' OR e.outcome = 'denied' OR e.code = 'not_found' OR :everything)
      AND (CAST(:at AS timestamptz) IS NULL OR (e.occurred_at, e.id) < (:at, CAST(:id AS uuid)))
    ORDER BY e.occurred_at DESC, e.id DESC LIMIT :limit
    """
)
"""One line for each time that somebody saw the record, changed it, or was denied it.

Refusals for what was asked, as of a time that is taken, say nothing about access to the record.
"""


def is_own_patient(user_id: UUID, patient_id: UUID) -> bool:
    """Whether the record is the user's own."""
    return bool(db.session.scalar(IS_OWN, {"user_id": user_id, "patient_id": patient_id}))


def is_our_patient(patient_id: UUID) -> bool:
    """Whether the organisation has such a patient."""
    return bool(db.session.scalar(IS_OURS, {"patient_id": patient_id}))


def list_accesses(
    patient_id: UUID, *, everything: bool, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[Row[Any]]:
    """Who saw or changed a record, newest first, one more than ``limit`` if more follow."""
    values = {"patient_id": patient_id, "everything": everything, "limit": limit + 1}
    return db.session.execute(ACCESSES, values | dict(zip(("at", "id"), after or (None, None), strict=True))).all()


LAST_SEALS = text(f"{SEALS} WHERE last_position < :before ORDER BY number DESC LIMIT :limit")
GAPS = text("SELECT audit_gaps(:first, :last)")


def last_seals(before: int, limit: int) -> list[dict[str, Any]]:
    """Seals of what lies before a place of the chain, the last one first."""
    rows = db.session.execute(LAST_SEALS, {"before": before, "limit": limit})
    return [json.loads(row[1]) for row in rows]


def links(first: int, last: int) -> list[dict[str, Any]]:
    """A part of the chain, with the events that the present organisation has in it."""
    rows = db.session.connection().exec_driver_sql(OWN_LINKS, {"first": first, "last": last})
    return [json.loads(row[0]) for row in rows]


def gaps(first: int, last: int) -> set[int]:
    """Places in a part of the chain whose event, of whatever organisation, is gone or another one."""
    return set(db.session.scalars(GAPS, {"first": first, "last": last}))
