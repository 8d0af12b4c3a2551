"""Format 1 of an event's digest, as docs/audit-format.md has it: the same bytes for the same event, always."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

FORMAT = 1
MAGIC = b"medical-audit-event-1\n"
SEARCH_MAGIC = b"medical-audit-search-1\n"

COMMON = (
    "organization_id",
    "occurred_at",
    "actor_id",
    "actor_roles",
    "session_id",
    "on_behalf_of",
    "client_id",
    "purpose",
    "action",
    "outcome",
    "code",
    "request_id",
    "source",
    "search_digest",
)
"""What the events of one request share; it comes first, so that it is digested once."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_digests(common: Mapping[str, Any], own: Sequence[tuple[Any, ...]]) -> Iterator[bytes]:
    """The digest of each event: ``own`` are its id, patient_id, entity_type and entity_id."""
    shared = sha256(MAGIC + b"".join(_part(common[name]) for name in COMMON))
    for values in own:
        digest = shared.copy()
        digest.update(b"".join(map(_part, values)))
        yield digest.digest()


def search_digest(salt: bytes, content: str) -> bytes:
    """What an event says of a text that was searched for; the salt keeps it from being guessed."""
    return sha256(SEARCH_MAGIC + salt + content.encode()).digest()


def _part(value: Any) -> bytes:
    """A value so that no two rows of values look alike: 0 for none, else 1, its length, and its bytes."""
    if value is None:
        return b"\x00"
    raw = _bytes_of(value)
    return b"\x01" + len(raw).to_bytes(4, "big") + raw


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, datetime):
        return ((value - EPOCH) // timedelta(microseconds=1)).to_bytes(8, "big", signed=True)
    return len(value).to_bytes(4, "big") + b"".join(map(_part, value))
