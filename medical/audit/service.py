"""Leaving the trail. Services say whom they touch; the edge writes it all with one statement."""

import secrets
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from medical.audit.encoding import FORMAT, event_digests, search_digest
from medical.audit.errors import AuditUnavailable
from medical.platform import authz, clock
from medical.platform.authz import Actor
from medical.platform.db import db, refusal_of, scope_organization, scope_user
from medical.platform.ids import new_id
from medical.platform.logging import get_logger

PENDING, SEARCHED, PURPOSE, DRY = "touched", "searched", "purpose", "dry"
DRY_RUN = "dry_run"
"""The code of an event whose request only asked what would come about."""
SALT_BYTES = 16
LONGEST_SEARCH = 4000

ADD = """
    INSERT INTO audit_event (id, organization_id, occurred_at, actor_id, actor_roles, session_id, action, outcome,
                             code, request_id, source, purpose, on_behalf_of, client_id, search_digest, format,
                             patient_id, entity_type, entity_id, digest)
    SELECT t.id, %(organization_id)s, %(occurred_at)s, %(actor_id)s, %(actor_roles)s, %(session_id)s, %(action)s,
           %(outcome)s, %(code)s, %(request_id)s, %(source)s, %(purpose)s, %(on_behalf_of)s, %(client_id)s,
           %(search_digest)s, %(format)s, t.patient_id, t.entity_type, t.entity_id, decode(t.digest, 'hex')
    FROM unnest(%(ids)s::uuid[], %(patient_ids)s::uuid[], %(entity_types)s::text[], %(entity_ids)s::uuid[],
                %(digests)s::text[]) AS t (id, patient_id, entity_type, entity_id, digest)
"""
"""One statement, whatever the number of things touched: it is parsed and planned as often as one of one row.

Digests go as hexadecimal digits: the driver takes much longer over an array of bytes.
"""

ADD_SEARCH = """
    INSERT INTO audit_search (digest, occurred_at, organization_id, salt, content)
    VALUES (%(digest)s, %(occurred_at)s, %(organization_id)s, %(salt)s, %(content)s)
"""

Thing = tuple[UUID | None, str | None, UUID | None]
"""A patient, and what of theirs was touched."""

log = get_logger(__name__)


def touch(entity_type: str, entity_id: UUID | None, *, patient_id: UUID | None = None) -> None:
    """Say that this request touches a thing, and through it a patient."""
    db.session().info.setdefault(PENDING, {})[(patient_id, entity_type, entity_id)] = None


def searched(content: str | None) -> None:
    """Say what this request searches for; the text is kept where only the verifier's role reads it."""
    db.session().info[SEARCHED] = content


def for_purpose(purpose: str) -> None:
    """Say why this request does what it does, where that is out of the ordinary: ``BTG`` through a broken glass."""
    db.session().info[PURPOSE] = purpose


def dry_run() -> None:
    """Say that this request only asks what would come about, and changes nothing."""
    db.session().info[DRY] = DRY_RUN


def record(action: str, outcome: str, code: str | None = None) -> None:
    """Write one event for each thing touched since the last record, or one event for none.

    A patient who was touched through a thing of theirs is not named once more.
    The rows belong to the present transaction: with them it commits, without them it does not.
    Raises ``AuditUnavailable`` when they cannot be written.
    """
    pending = db.session().info
    dry = pending.pop(DRY, None)
    touched = _specific(pending.pop(PENDING, {})) or [(None, None, None)]
    actor = authz.find_actor()
    common = {
        "organization_id": scope_organization(),
        "occurred_at": clock.now(),
        "actor_id": actor.user_id if actor else scope_user(),
        "actor_roles": sorted(actor.roles) if actor else [],
        "session_id": actor.session_id if actor else None,
        "on_behalf_of": _on_behalf_of(actor),
        "client_id": _client_of(actor),
        "purpose": pending.pop(PURPOSE, None),
        "action": str(action),
        "outcome": outcome,
        "code": code or dry,
        "request_id": authz.current_request_id(),
        "source": authz.current_source(),
    }
    try:
        common["search_digest"] = _keep(pending.pop(SEARCHED, None), common)
        _add(common, [(new_id(), *thing) for thing in touched])
    except DBAPIError as error:
        if refusal_of(error):
            raise
        log.error("audit_unavailable", action=str(action), sqlstate=getattr(error.orig, "sqlstate", None))
        raise AuditUnavailable from error


def _client_of(actor: Actor | None) -> str | None:
    """The program that called: an app of the actor's, or a service client, which is an actor itself."""
    if actor is None or (actor.app is None and actor.scopes is None):
        return None
    return str(actor.app.id if actor.app else actor.user_id)


def _on_behalf_of(actor: Actor | None) -> UUID | None:
    """The user for whom an app acts."""
    return actor.user_id if actor and actor.app and actor.app.id != actor.user_id else None


def _specific(touched: Iterable[Thing]) -> list[Thing]:
    """Without patients as such, where the same request touches something of theirs."""
    through_things = {patient_id for patient_id, entity_type, _ in touched if entity_type != "patient"}
    return [thing for thing in touched if thing[1] != "patient" or thing[0] not in through_things]


def _keep(content: str | None, common: dict[str, Any]) -> bytes | None:
    """Keep the text of a search apart from the events; the digest by which they know it."""
    if content is None:
        return None
    salt, content = secrets.token_bytes(SALT_BYTES), content[:LONGEST_SEARCH]
    digest = search_digest(salt, content)
    db.session.connection().exec_driver_sql(ADD_SEARCH, common | {"digest": digest, "salt": salt, "content": content})
    return digest


def _add(common: dict[str, Any], own: list[tuple[Any, ...]]) -> None:
    ids, patient_ids, entity_types, entity_ids = map(list, zip(*own, strict=True))
    columns = {"ids": ids, "patient_ids": patient_ids, "entity_types": entity_types, "entity_ids": entity_ids}
    digests = [digest.hex() for digest in event_digests(common, own)]
    db.session.connection().exec_driver_sql(ADD, common | columns | {"digests": digests, "format": FORMAT})
