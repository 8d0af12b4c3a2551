"""Who is told when somebody or something of the organisation's directory is new or has changed."""

from collections.abc import Callable
from uuid import UUID

CHANGED: list[Callable[[UUID], None]] = []
"""Told of accounts, clinicians, sites and organisations by their ids, in the same transaction."""


def tell(entry_id: UUID) -> None:
    """Say that this account, clinician, site or organisation is new or has changed, and is written."""
    for hear in CHANGED:
        hear(entry_id)
