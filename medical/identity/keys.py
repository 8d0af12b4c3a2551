"""The ring of Ed25519 keys that sign access tokens; private halves are encrypted under SECRET_KEY.

All processes share the ring through the database. A process keeps what it read for a minute, and
reads again when a token names a key that it does not know.
"""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from medical.config import Settings
from medical.identity.errors import KeyRingLocked
from medical.identity.models import SigningKey
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.platform.sealing import Seal, Tampered

KEPT_SECONDS = 60.0
RELOAD_SECONDS = 1.0
RAW = serialization.Encoding.Raw


@dataclass(frozen=True, slots=True)
class Ring:
    """The key that signs, and those that verify, by id."""

    signing: tuple[str, Ed25519PrivateKey] | None
    verifying: Mapping[str, Ed25519PublicKey]
    read_at: float


class KeyRing:
    """The ring as this process last read it."""

    def __init__(self, secret: str) -> None:
        self._sealing = Seal(secret, "signing keys")
        self._ring: Ring | None = None

    def signing(self) -> tuple[str, Ed25519PrivateKey]:
        """The id and private half of the active key, which is made if there is none yet.

        Raises ``KeyRingLocked``.
        """
        ring = self._fresh(KEPT_SECONDS)
        if ring.signing is None:
            self.ensure()
            ring = self._fresh(KEPT_SECONDS)
        assert ring.signing  # noqa: S101 - there is one now
        return ring.signing

    def verifying(self, key_id: str) -> Ed25519PublicKey | None:
        """The public half of a key of the ring, or None for an unknown id."""
        key = self._fresh(KEPT_SECONDS).verifying.get(key_id)
        return key or self._fresh(RELOAD_SECONDS).verifying.get(key_id)

    def ensure(self) -> None:
        """Make the first key if the ring is empty, in a transaction of its own.

        Raises ``KeyRingLocked`` when the stored keys were encrypted under another SECRET_KEY.
        """
        private = Ed25519PrivateKey.generate()
        key_id = base64.urlsafe_b64encode(new_id().bytes).decode().rstrip("=")
        row = {
            "id": key_id,
            "status": "active",
            "private_key": self._seal(key_id, private),
            "public_key": private.public_key().public_bytes(RAW, serialization.PublicFormat.Raw),
        }
        with db.engine.begin() as connection:
            connection.execute(insert(SigningKey).values(row).on_conflict_do_nothing())
        self._ring = self._read()

    def _fresh(self, seconds: float) -> Ring:
        ring = self._ring
        if ring is None or time.monotonic() - ring.read_at > seconds:
            ring = self._ring = self._read()
        return ring

    def _read(self) -> Ring:
        rows = db.session.scalars(select(SigningKey)).all()
        active = next((row for row in rows if row.status == "active"), None)
        return Ring(
            signing=(active.id, self._open(active)) if active else None,
            verifying={row.id: Ed25519PublicKey.from_public_bytes(row.public_key) for row in rows},
            read_at=time.monotonic(),
        )

    def _seal(self, key_id: str, private: Ed25519PrivateKey) -> bytes:
        raw = private.private_bytes(RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
        return self._sealing.seal(raw, key_id)

    def _open(self, row: SigningKey) -> Ed25519PrivateKey:
        try:
            return Ed25519PrivateKey.from_private_bytes(self._sealing.open(row.private_key, row.id))
        except Tampered as error:
            raise KeyRingLocked from error


def ensure_ring(settings: Settings) -> None:
    """Make the first key of a new installation, and see that SECRET_KEY opens what is there.

    Raises ``KeyRingLocked``.
    """
    KeyRing(settings.secret_key).ensure()
