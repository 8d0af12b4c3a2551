"""What the database keeps and must not give away by itself: encrypted, or digested, under SECRET_KEY."""

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12


class Tampered(Exception):
    """Sealed under another SECRET_KEY or for another place, or changed since."""


class Seal:
    """Seals values and digests names for one purpose; what is made for one purpose is nothing for another."""

    def __init__(self, secret: str, purpose: str) -> None:
        self._cipher = AESGCM(_derived(secret, f"medical-backend {purpose}"))
        self._digest_key = _derived(secret, f"medical-backend {purpose}, digests")

    def seal(self, raw: bytes, place: str) -> bytes:
        """``raw``, encrypted; it opens at this ``place`` only."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, raw, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed. Raises ``Tampered``."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
        except InvalidTag as error:
            raise Tampered from error

    def digest(self, text: str) -> bytes:
        """A digest that says nothing of ``text`` to whoever lacks SECRET_KEY."""
        return hmac.digest(self._digest_key, text.encode(), "sha256")


def _derived(secret: str, info: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info.encode()).derive(secret.encode())
