"""How signing keys move on: next → active → retired → gone. For the role that owns the schema, not for the web process.

All of it happens under a lock on the table, so that two rotations follow one another.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, text, update

from medical.identity.errors import KeyNotKnown
from medical.identity.keys import KEPT_SECONDS, RING, VERIFIES_ON, KeyRing
from medical.identity.models import SigningKey

PUBLISHED = timedelta(seconds=KEPT_SECONDS + 5)
"""How long a key is next before it signs: by then every process, and whoever caches the published ring, knows it."""

LOCK = text("LOCK TABLE signing_key IN SHARE ROW EXCLUSIVE MODE")
"""Signing and verifying go on meanwhile; making a key waits."""


def ring(connection: Connection, now: datetime) -> Sequence[Any]:
    """The keys whose tokens may live, oldest first."""
    return [row for row in connection.execute(RING) if row.retired_at is None or now < row.retired_at + VERIFIES_ON]


def publish(connection: Connection, keys: KeyRing, now: datetime) -> datetime:
    """When the next key may sign; it is made if none waits."""
    connection.execute(LOCK)
    waiting = _find(connection, "next")
    if waiting is None:
        connection.execute(insert(SigningKey).values(keys.new_key("next") | {"created_at": now}))
        return now + PUBLISHED
    may_sign_at: datetime = waiting.created_at + PUBLISHED
    return may_sign_at


def rotate(connection: Connection, keys: KeyRing, now: datetime, *, instead_of: str | None) -> bool:
    """Let the next key sign, make another next one, retire the active one and remove those that are over.

    Tokens stay good until they expire. False, with nothing done, when the active key is no longer
    ``instead_of``: somebody else rotated. Raises ``KeyNotKnown`` when the next key is too young to be known
    everywhere, and ``KeyRingLocked``.
    """
    connection.execute(LOCK)
    active, waiting = _find(connection, "active"), _find(connection, "next")
    if active and active.id != instead_of:
        return False
    if waiting is None or now < waiting.created_at + PUBLISHED:
        raise KeyNotKnown
    keys.open(waiting.id, waiting.private_key)
    retired = {"status": "retired", "retired_at": now, "private_key": None}
    connection.execute(update(SigningKey).where(SigningKey.status == "active").values(retired))
    connection.execute(update(SigningKey).where(SigningKey.id == waiting.id).values(status="active"))
    connection.execute(insert(SigningKey).values(keys.new_key("next") | {"created_at": now}))
    connection.execute(delete(SigningKey).where(SigningKey.retired_at <= now - VERIFIES_ON))
    return True


def replace(connection: Connection, keys: KeyRing, now: datetime) -> None:
    """Put new keys in the place of all there are, for one that somebody else has; every access token fails at once.

    Sign-ins live on: their refresh tokens are no part of the ring. Raises ``KeyRingLocked``.
    """
    connection.execute(LOCK)
    if active := _find(connection, "active"):
        keys.open(active.id, active.private_key)
    connection.execute(delete(SigningKey))
    made = [keys.new_key(status) | {"created_at": now} for status in ("active", "next")]
    connection.execute(insert(SigningKey).values(made))


def _find(connection: Connection, status: str) -> Any:
    return connection.execute(RING.where(SigningKey.status == status)).first()
