"""Leaving the trail. Services say whom they touch; the edge writes it all with one statement."""

from typing import Any
from uuid import UUID

from sqlalchemy import insert

from medical.audit.models import AuditEvent
from medical.platform import authz, clock
from medical.platform.db import db, scope_organization, scope_user
from medical.platform.ids import new_id

PENDING = "touched"


def touch(entity_type: str, entity_id: UUID | None, *, patient_id: UUID | None = None) -> None:
    """Say that this request touches a thing, and through it a patient."""
    db.session().info.setdefault(PENDING, {})[(patient_id, entity_type, entity_id)] = None


def record(action: str, outcome: str, code: str | None = None) -> None:
    """Write one event for each thing touched since the last record, or one event for none.

    The rows belong to the present transaction: with them it commits, without them it does not.
    """
    touched = db.session().info.pop(PENDING, None) or {(None, None, None): None}
    actor = authz.find_actor()
    common: dict[str, Any] = {
        "organization_id": scope_organization(),
        "occurred_at": clock.now(),
        "actor_id": actor.user_id if actor else scope_user(),
        "actor_roles": sorted(actor.roles) if actor else [],
        "session_id": actor.session_id if actor else None,
        "action": action,
        "outcome": outcome,
        "code": code,
        "request_id": authz.current_request_id(),
        "source": authz.current_source(),
    }
    rows = [
        common | {"id": new_id(), "patient_id": patient_id, "entity_type": entity_type, "entity_id": entity_id}
        for patient_id, entity_type, entity_id in touched
    ]
    db.session.execute(insert(AuditEvent).values(rows))
