"""The ring of Ed25519 keys that sign access tokens; private halves are encrypted under SECRET_KEY.

All processes share the ring through the database. A key is ``next`` (it verifies and waits), then ``active``
(it signs), then ``retired`` (it verifies until its last token is over; its private half is gone). A process
verifies by what it read within a minute, and reads again for a key that it does not know; it signs by what it
reads at that moment. How keys move on is ``medical.identity.rotation``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from medical.config import Settings
from medical.identity.errors import KeyRingLocked
from medical.identity.models import SigningKey
from medical.identity.tokens import LEEWAY, LIFETIME
from medical.platform import clock
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.platform.sealing import Seal, Tampered

KEPT_SECONDS = 60.0
RELOAD_SECONDS = 1.0
VERIFIES_ON = LIFETIME + LEEWAY
"""How long a retired key has tokens that are not over."""
RAW = serialization.Encoding.Raw


@dataclass(frozen=True, slots=True)
class Verifying:
    """The public half of a key, and when the last token that it signed is over."""

    key: Ed25519PublicKey
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Ring:
    """The key that signs, and those that verify, by id, oldest first."""

    signing: tuple[str, Ed25519PrivateKey] | None
    verifying: Mapping[str, Verifying]
    read_at: float


class KeyRing:
    """The ring as this process last read it."""

    def __init__(self, secret: str) -> None:
        self._sealing = Seal(secret, "signing keys")
        self._ring: Ring | None = None

    def signing(self) -> tuple[str, Ed25519PrivateKey]:
        """The id and private half of the key that is active now, which is made if there is none yet.

        Raises ``KeyRingLocked``.
        """
        ring = self._ring = self._read()
        if ring.signing is None:
            self.ensure()
            ring = self._fresh(KEPT_SECONDS)
        assert ring.signing  # noqa: S101 - there is one now
        return ring.signing

    def verifying(self, key_id: str) -> Ed25519PublicKey | None:
        """The public half of a key whose tokens may live, or None for an unknown id."""
        found = self._fresh(KEPT_SECONDS).verifying.get(key_id) or self._fresh(RELOAD_SECONDS).verifying.get(key_id)
        return found.key if found and _counts(found) else None

    def published(self) -> Mapping[str, Ed25519PublicKey]:
        """The public halves of all keys whose tokens may live, by id, oldest first."""
        ring = self._fresh(RELOAD_SECONDS)
        return {key_id: one.key for key_id, one in ring.verifying.items() if _counts(one)}

    def ensure(self) -> None:
        """Make the first key if the ring is empty, and the next one if none waits, in a transaction of its own.

        Raises ``KeyRingLocked`` when the stored keys were encrypted under another SECRET_KEY.
        """
        rows = [self.new_key("active"), self.new_key("next")]
        with db.engine.begin() as connection:
            connection.execute(insert(SigningKey).values(rows).on_conflict_do_nothing())
        self._ring = self._read()

    def new_key(self, status: str) -> dict[str, Any]:
        """A new key as a row of the ring."""
        private = Ed25519PrivateKey.generate()
        key_id = new_id().hex
        raw = private.private_bytes(RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
        return {
            "id": key_id,
            "status": status,
            "private_key": self._sealing.seal(raw, key_id),
            "public_key": private.public_key().public_bytes(RAW, serialization.PublicFormat.Raw),
        }

    def open(self, key_id: str, sealed: bytes) -> Ed25519PrivateKey:
        """The private half of a key. Raises ``KeyRingLocked`` when another SECRET_KEY sealed it."""
        try:
            return Ed25519PrivateKey.from_private_bytes(self._sealing.open(sealed, key_id))
        except Tampered as error:
            raise KeyRingLocked from error

    def _fresh(self, seconds: float) -> Ring:
        ring = self._ring
        if ring is None or time.monotonic() - ring.read_at > seconds:
            ring = self._ring = self._read()
        return ring

    def _read(self) -> Ring:
        read_at = time.monotonic()
        rows = db.session.execute(RING).all()
        active = next((row for row in rows if row.status == "active"), None)
        return Ring(
            signing=(active.id, self.open(active.id, active.private_key)) if active else None,
            verifying={row.id: _verifying(row) for row in rows},
            read_at=read_at,
        )


RING = select(
    SigningKey.id,
    SigningKey.status,
    SigningKey.private_key,
    SigningKey.public_key,
    SigningKey.created_at,
    SigningKey.retired_at,
).order_by(SigningKey.created_at, SigningKey.id)


def _verifying(row: Any) -> Verifying:
    until = row.retired_at + VERIFIES_ON if row.retired_at else None
    return Verifying(Ed25519PublicKey.from_public_bytes(row.public_key), until)


def _counts(verifying: Verifying) -> bool:
    return verifying.until is None or clock.now() < verifying.until


def ensure_ring(settings: Settings) -> None:
    """Make the first keys of a new installation, and see that SECRET_KEY opens what is there.

    Raises ``KeyRingLocked``.
    """
    KeyRing(settings.secret_key).ensure()
