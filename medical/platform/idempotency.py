"""One effect for one intent: the first answer to an ``Idempotency-Key`` is the answer to all its repeats.

The key's row is written in the transaction of the effect, so neither exists without the other, and
a repeat that comes while the first is at work waits for it on the row.
"""

import hmac
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import ForeignKey, Index, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform import clock
from medical.platform.db import Base, db
from medical.platform.errors import IdempotencyKeyReused

LIFETIME = timedelta(hours=24)


class IdempotencyKey(Base):
    """A caller's key, what it was used for, and the answer given."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("ix_idempotency_key_expires_at", "expires_at"),)

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    caller: Mapped[str] = mapped_column(primary_key=True, comment="user id, or source address of a guest")
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, comment="HMAC-SHA-256 of method, path and body")
    status: Mapped[int | None] = mapped_column(SmallInteger)
    headers: Mapped[bytes | None] = mapped_column(LargeBinary, comment="JSON object")
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]


class Answer(Struct, frozen=True):
    """What was or will be sent to the caller."""

    status: int
    headers: dict[str, str]
    body: bytes


class Intent(Struct, frozen=True):
    """A request that came with a key."""

    organization_id: UUID
    caller: str
    key: str
    digest: bytes


def digest_of(secret: str, method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same request; keyed, since a body may hold a password."""
    return hmac.digest(secret.encode(), b"\n".join((method.encode(), path.encode(), body)), "sha256")


CLAIM = text(
    """
    WITH swept AS (
        DELETE FROM idempotency_key k USING (
            SELECT organization_id, caller, key FROM idempotency_key
            WHERE expires_at <= :now AND key <> :key LIMIT 20 FOR UPDATE SKIP LOCKED
        ) old
        WHERE (k.organization_id, k.caller, k.key) = (old.organization_id, old.caller, old.key)
    )
    INSERT INTO idempotency_key AS k (organization_id, caller, key, digest, expires_at)
    VALUES (:organization_id, :caller, :key, :digest, :expires_at)
    ON CONFLICT (organization_id, caller, key) DO UPDATE
        SET digest = excluded.digest, status = NULL, headers = NULL, body = NULL, expires_at = excluded.expires_at
        WHERE k.expires_at <= :now
    RETURNING 1
    """
)
READ = text(
    "SELECT digest, status, headers, body FROM idempotency_key"
    " WHERE organization_id = :organization_id AND caller = :caller AND key = :key"
)
STORE = text(
    "UPDATE idempotency_key SET status = :status, headers = :headers, body = :body"
    " WHERE organization_id = :organization_id AND caller = :caller AND key = :key"
)


def claim(intent: Intent) -> Answer | None:
    """Take the key for this request (None), or return the answer that its first use was given.

    Raises ``IdempotencyKeyReused`` when the first use was another request.
    """
    now = clock.now()
    values = {
        "organization_id": intent.organization_id,
        "caller": intent.caller,
        "key": intent.key,
        "digest": intent.digest,
    }
    if db.session.execute(CLAIM, values | {"now": now, "expires_at": now + LIFETIME}).scalar():
        return None
    stored = db.session.execute(READ, values).one()
    if stored.digest != intent.digest:
        raise IdempotencyKeyReused
    return Answer(stored.status, msgspec.json.decode(stored.headers, type=dict[str, str]), bytes(stored.body))


def store(intent: Intent, answer: Answer) -> None:
    """Keep ``answer`` for repeats of ``intent``; it lasts if the transaction does."""
    db.session.execute(
        STORE,
        {
            "organization_id": intent.organization_id,
            "caller": intent.caller,
            "key": intent.key,
            "status": answer.status,
            "headers": msgspec.json.encode(answer.headers),
            "body": answer.body,
        },
    )
