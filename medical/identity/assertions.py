"""Assertions that a client signs to prove who it is (RFC 7523), and the keys that they are held against."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import Struct

from medical.identity.errors import InvalidClient

ALGORITHMS = {
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
}
"""What a client may sign with, and the kind of key that goes with it; nothing else is ever tried."""

TYPES = frozenset({None, "JWT", "client-authentication+jwt"})
"""What an assertion may say it is: not one of our access tokens."""
REFUSED_HEADERS = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})
"""Keys from elsewhere, and demands that we do not understand."""

LONGEST_AHEAD = timedelta(minutes=5)
LEEWAY = timedelta(seconds=30)
LONGEST_JTI = 200
CLAIMS = ["iss", "sub", "aud", "exp", "jti"]
RSA_BITS = range(2048, 8193)
LARGEST_EXPONENT = 2**32

UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError)
"""What reading something made up raises."""


class Assertion(Struct, frozen=True):
    """A good assertion: what it must be known by, so that it is not used again, and for how long."""

    digest: bytes
    expires_at: datetime


def key_problem(key: Mapping[str, Any]) -> str | None:
    """What is wrong with a public key of a JWK set (RFC 7517), if anything is."""
    fitting = [name for name, (kind, curve) in ALGORITHMS.items() if (kind, curve) == (key["kty"], key.get("crv"))]
    if not fitting:
        return "must be an OKP key on Ed25519, an EC key on P-256 or P-384, or an RSA key"
    if key.get("alg", fitting[0]) not in fitting:
        return f"alg must be one of {', '.join(fitting)} for this key"
    if key.get("use", "sig") != "sig" or "verify" not in key.get("key_ops", ["verify"]):
        return "must be a key for signatures"
    try:
        made = jwt.PyJWK(dict(key), algorithm=fitting[0]).key
    except UNREADABLE:
        return "is not a public key of its kind"
    if isinstance(made, RSAPublicKey):
        if made.key_size not in RSA_BITS:
            return f"must have {RSA_BITS.start} to {RSA_BITS.stop - 1} bits"
        if made.public_numbers().e > LARGEST_EXPONENT:
            return "has too large an exponent"
    return None


def claimed_client(token: str) -> str:
    """Whose assertion it says it is; nothing is proven yet. Raises ``InvalidClient``."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except UNREADABLE:
        raise InvalidClient from None
    client_id = claims.get("sub")
    if not isinstance(client_id, str):
        raise InvalidClient
    return client_id


def verify(
    token: str, client_id: str, keys: Iterable[Mapping[str, Any]], audiences: Collection[str], now: datetime
) -> Assertion:
    """The assertion, if the client of this id signed it with a key of its own, for us, and for now.

    Raises ``InvalidClient`` for every other one.
    """
    try:
        header = jwt.get_unverified_header(token)
        algorithm = header["alg"]
        key = _key_of(header, keys)
        if header.keys() & REFUSED_HEADERS or header.get("typ") not in TYPES:
            raise InvalidClient
        made = jwt.PyJWK(dict(key), algorithm=algorithm).key
        claims: dict[str, Any] = jwt.decode(token, made, algorithms=[algorithm], options=_signature_only())
    except (*UNREADABLE, KeyError):
        raise InvalidClient from None
    if (claims["iss"], claims["sub"]) != (client_id, client_id) or not _is_for(claims["aud"], audiences):
        raise InvalidClient
    return Assertion(_digest(claims["jti"]), _until(claims, now) + LEEWAY)


def _key_of(header: Mapping[str, Any], keys: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The client's key that the header names, if it goes with the algorithm. Raises ``InvalidClient``."""
    algorithm, key_id = header.get("alg"), header.get("kid")
    key = next((one for one in keys if one["kid"] == key_id), None)
    if key is None or algorithm not in ALGORITHMS:
        raise InvalidClient
    if ALGORITHMS[algorithm] != (key["kty"], key.get("crv")) or key.get("alg", algorithm) != algorithm:
        raise InvalidClient
    return key


def _signature_only() -> Any:
    """Claims are judged here, by our clock; PyJWT sees to the signature and that they are there."""
    names = ("aud", "exp", "iat", "iss", "jti", "nbf", "sub")
    return {"verify_signature": True, "require": CLAIMS} | {f"verify_{name}": False for name in names}


def _is_for(audience: object, audiences: Collection[str]) -> bool:
    """Whether an assertion is for us, and for nobody else who could bring it here."""
    if isinstance(audience, list) and len(audience) == 1:
        [audience] = audience
    return isinstance(audience, str) and audience in audiences


def _digest(jti: object) -> bytes:
    if not isinstance(jti, str) or not 1 <= len(jti) <= LONGEST_JTI:
        raise InvalidClient
    return sha256(jti.encode("utf-8", "surrogatepass")).digest()


def _until(claims: Mapping[str, Any], now: datetime) -> datetime:
    """When the assertion ends, which is soon. Raises ``InvalidClient`` when it is over, or not begun."""
    given = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    if any(type(value) is not int for value in given.values()):
        raise InvalidClient
    present, leeway = now.timestamp(), LEEWAY.total_seconds()
    longest = LONGEST_AHEAD.total_seconds() + leeway
    if not present - leeway < given["exp"] <= present + longest:
        raise InvalidClient
    if max(given.get("iat", 0), given.get("nbf", 0)) > present + leeway:
        raise InvalidClient
    if given["exp"] - given.get("iat", given["exp"]) > longest:
        raise InvalidClient
    return datetime.fromtimestamp(given["exp"], UTC)
