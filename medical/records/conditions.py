"""Conditions that name a resource by a search: for writes that should find it, and for references to it."""

from collections.abc import Iterable
from urllib.parse import parse_qsl

from sqlalchemy import text

from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.records.criteria import Searcher
from medical.records.errors import SeveralMatch, UnknownParameter
from medical.records.models import Resource
from medical.records.service import COLUMNS, Stored

LOCK = text(
    """
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(:organization_id || ' ' || condition, 0) AS key
        FROM unnest(CAST(:conditions AS text[])) AS condition ORDER BY key
    ) AS keys
    """
)
"""Whoever writes on a condition waits for others who write on the same one; in one order, so nobody waits for ever."""


def lock(conditions: Iterable[str]) -> None:
    """Wait for one's turn at these conditions, which lasts until the transaction ends."""
    db.session.execute(LOCK, {"organization_id": str(scope_organization()), "conditions": [*conditions]})


def match(actor: Actor, type_name: str, query: str) -> Stored | None:
    """The one resource of a type that fits a query, of those the actor sees; None if there is none.

    Raises ``SeveralMatch``, or ``UnknownParameter`` for a query that asks for nothing, or for what there is not.
    """
    searcher = Searcher(actor)
    asked = [(name, value) for name, value in parse_qsl(query.lstrip("?"), keep_blank_values=True, max_num_fields=50)]
    conditions = [searcher.condition(type_name, name, value) for name, value in asked if value]
    found = [one for one in conditions if one is not None]
    if not found or len(found) < len(asked):
        raise UnknownParameter("A condition must ask for something, by parameters that there are.")
    rows = db.session.execute(searcher.ids_of(type_name, found, *COLUMNS).order_by(Resource.id).limit(2)).all()
    if len(rows) > 1:
        raise SeveralMatch
    return Stored._make(rows[0]) if rows else None
