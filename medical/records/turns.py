"""Turns at resources that may not be there yet, so that there is no row to wait on."""

from collections.abc import Iterable

from sqlalchemy import text

from medical.platform.db import db, scope_organization

LOCK = text(
    """
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(:organization_id || ' ' || name, 0) AS key
        FROM unnest(CAST(:names AS text[])) AS name ORDER BY key
    ) AS keys
    """
)
"""In one order, so that nobody waits for ever."""


def lock(names: Iterable[str]) -> None:
    """Wait for one's turn at resources that may not be there yet, by `Type/id` or `Type?condition`.

    It lasts until the transaction ends; whoever writes several takes all turns at once.
    """
    db.session.execute(LOCK, {"organization_id": str(scope_organization()), "names": [*names]})
