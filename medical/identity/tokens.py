"""Access tokens: EdDSA-signed JWTs (RFC 9068) of ten minutes that carry ids, never a role."""

import time
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from medical.platform.errors import Unauthenticated
from medical.platform.ids import new_id

if TYPE_CHECKING:
    from medical.identity.keys import KeyRing

LIFETIME = timedelta(minutes=10)
LEEWAY = timedelta(seconds=30)
REMEMBERED = 1024
"""How many tokens a process knows to be genuine without looking at the signature again."""
ISSUER, AUDIENCE, TYPE, ALGORITHM = "medical-backend", "medical-backend/api", "at+jwt", "EdDSA"
CLAIMS = ["iss", "aud", "sub", "sid", "org", "jti", "iat", "nbf", "exp"]


class Claims(Struct, frozen=True):
    """Whom a valid token speaks for."""

    user_id: UUID
    session_id: UUID
    organization_id: UUID
    key_id: str | None = None
    """The key it was signed with; None before it is signed."""


def issue(ring: "KeyRing", claims: Claims, now: datetime, lifetime: timedelta = LIFETIME) -> str:
    """A token for ``claims`` that is valid from ``now`` for ``lifetime``."""
    key_id, key = ring.signing()
    content = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(claims.user_id),
        "sid": str(claims.session_id),
        "org": str(claims.organization_id),
        "jti": str(new_id()),
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
    }
    return jwt.encode(content, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": TYPE})


def verify(ring: "KeyRing", token: str) -> Claims:
    """The claims of a token that we issued and that is valid now.

    Raises ``Unauthenticated`` for every other token.
    """
    try:
        key_id = _key_id(token)
        key = ring.verifying(key_id)
        if key is None:
            raise Unauthenticated
        claims, over_at = _verified(token, key_id, key.public_bytes_raw())
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise Unauthenticated from error
    if time.time() >= over_at:  # by the same clock as PyJWT
        raise Unauthenticated
    return claims


@lru_cache(REMEMBERED)
def _key_id(token: str) -> str:
    """The id of the key that a token says it was signed with."""
    header = jwt.get_unverified_header(token)
    if header.get("typ") != TYPE:
        raise Unauthenticated
    return str(header.get("kid", ""))


@lru_cache(REMEMBERED)
def _verified(token: str, key_id: str, raw_key: bytes) -> tuple[Claims, float]:
    """The claims of a token that the key signed, and when it is over in seconds of Unix time, leeway included.

    Whoever calls does so again within minutes, and the signature is the dearest part of it: it is checked once.
    The lifetime is capped here too, so that a signed token cannot outlive it (RFC 8725 section 3.11 on types,
    3.12 on claims).
    """
    content: dict[str, Any] = jwt.decode(
        token,
        Ed25519PublicKey.from_public_bytes(raw_key),
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        leeway=LEEWAY,
        options={"require": CLAIMS},
    )
    if any(type(content[name]) is not int for name in ("iat", "nbf", "exp")):
        raise Unauthenticated  # PyJWT also takes what int() makes a number
    if content["exp"] - content["iat"] > LIFETIME.total_seconds():
        raise Unauthenticated
    claims = Claims(UUID(content["sub"]), UUID(content["sid"]), UUID(content["org"]), key_id)
    return claims, content["exp"] + LEEWAY.total_seconds()
