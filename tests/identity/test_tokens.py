"""Access tokens: what is accepted, and every way of forging one."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from medical.identity import tokens
from medical.identity.permissions import Role
from medical.platform import clock
from tests.clinic import Caller, Clinic

REMOVED = object()


class Forger:
    """Makes tokens like the program's, with something about them changed; it even has the key."""

    def __init__(self, app: Flask, genuine: str) -> None:
        self.app, self.genuine = app, genuine
        self.claims: dict[str, Any] = jwt.decode(genuine, options={"verify_signature": False})
        self.header: dict[str, Any] = jwt.get_unverified_header(genuine)
        with app.app_context():
            _, self.key = app.extensions["key_ring"].signing()

    def forge(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token signed with the right key; REMOVED takes a claim away."""
        return self.signed(self.key.sign, header, changes)

    def with_claim(self, name: str, value: object) -> str:
        """A token signed with the right key, with one claim changed."""
        return self.signed(self.key.sign, None, {name: value})

    def signed(self, sign: Callable[[bytes], bytes], header: dict[str, Any] | None, changes: dict[str, Any]) -> str:
        """A token signed by ``sign``."""
        parts = [
            {name: value for name, value in part.items() if value is not REMOVED}
            for part in (self.header | (header or {}), self.claims | changes)
        ]
        text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{encoded(sign(text.encode()))}"

    def status(self, token: str) -> int:
        """How the API answers to the token."""
        answer = Caller(self.app, token).get("/me")
        if answer.status_code == 401:
            assert answer.get_json()["code"] == "unauthenticated"
        return answer.status_code


def encoded(raw: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
def nurse(clinic: Clinic) -> Caller:
    """Whose token it is."""
    return clinic.user(Role.NURSE)


@pytest.fixture
def forger(app: Flask, nurse: Caller) -> Forger:
    """Has a genuine token to begin with."""
    assert nurse.token
    return Forger(app, nurse.token)


def test_the_forger_is_able(forger: Forger) -> None:
    """What it makes without a change is accepted, so a refusal below is for the change."""
    assert forger.status(forger.genuine) == 200
    assert forger.status(forger.forge()) == 200


def test_a_token_has_ids_and_times_and_nothing_else(forger: Forger) -> None:
    """No role, no name: what it says cannot go out of date."""
    assert set(forger.claims) == {"iss", "aud", "sub", "sid", "org", "jti", "iat", "nbf", "exp"}
    assert forger.claims["exp"] - forger.claims["iat"] == 600
    assert (forger.header["alg"], forger.header["typ"]) == ("EdDSA", "at+jwt")


class TestSignature:
    """Only our key signs."""

    def test_none_is_no_signature(self, forger: Forger) -> None:
        """In any spelling, with or without something in its place."""
        for name in ("none", "None", "NONE", "nOnE"):
            assert forger.status(forger.signed(lambda _text: b"", {"alg": name}, {})) == 401
            assert forger.status(forger.signed(lambda _text: b"x", {"alg": name}, {})) == 401

    def test_our_public_key_is_no_secret(self, forger: Forger) -> None:
        """The classic: HMAC with what everybody may know, in each of its forms."""
        public = forger.key.public_key()
        forms = [
            public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
            public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            b"",
        ]
        for key in forms:
            sign = partial(hmac.digest, key, digest="sha256")
            forged = forger.signed(sign, {"alg": "HS256"}, {})
            assert forger.status(forged) == 401

    def test_another_key_does_not_sign_for_ours(self, forger: Forger) -> None:
        """Neither of the same kind nor of another, under our key's id or with the key enclosed."""
        other, curve = Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())
        public = other.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public)}
        assert forger.status(forger.signed(other.sign, None, {})) == 401
        assert forger.status(forger.signed(other.sign, {"jwk": jwk}, {})) == 401
        header = {name: forger.header[name] for name in ("kid", "typ")}
        assert forger.status(jwt.encode(forger.claims, curve, algorithm="ES256", headers=header)) == 401

    def test_what_was_signed_cannot_be_changed(self, forger: Forger, clinic: Clinic) -> None:
        """The signature of a genuine token, on other claims or cut short."""
        header, _, signature = forger.genuine.split(".")
        claims = encoded(json.dumps(forger.claims | {"sub": clinic.admin.id}).encode())
        assert forger.status(f"{header}.{claims}.{signature}") == 401
        assert forger.status(forger.genuine[:-10]) == 401
        assert forger.status(forger.genuine.rpartition(".")[0]) == 401
        assert forger.status(forger.genuine.rpartition(".")[0] + ".") == 401

    @pytest.mark.parametrize("kid", ["unknown", "", REMOVED, 5, None, ["x"], {}, "../../etc/passwd", "' OR 1=1 --"])
    def test_an_unknown_key_id_is_refused(self, forger: Forger, kid: object) -> None:
        """Whatever it is, it is looked up among ours and nowhere else."""
        assert forger.status(forger.forge(header={"kid": kid})) == 401


class TestClaims:
    """A signature alone is not enough."""

    @pytest.mark.parametrize("claim", tokens.CLAIMS)
    def test_none_may_be_missing(self, forger: Forger, claim: str) -> None:
        """Each is required."""
        assert forger.status(forger.with_claim(claim, REMOVED)) == 401

    @pytest.mark.parametrize("claim", ["sub", "sid", "org"])
    @pytest.mark.parametrize("value", ["", "not a uuid", 5, None, ["x"], {}, "018f0000-0000-7000-8000-000000000000"])
    def test_ids_are_those_of_a_sign_in_that_is(self, forger: Forger, claim: str, value: object) -> None:
        """Malformed or invented ones are not."""
        assert forger.status(forger.with_claim(claim, value)) == 401

    @pytest.mark.parametrize(
        "change",
        [
            {"iss": "somebody-else"},
            {"aud": "another-service"},
            {"aud": []},
            {"iss": ["medical-backend"]},
        ],
    )
    def test_issuer_and_audience_are_ours(self, forger: Forger, change: dict[str, Any]) -> None:
        """A token for another service is not one for this."""
        assert forger.status(forger.forge(**change)) == 401

    @pytest.mark.parametrize("kind", ["JWT", "at+jwt+x", "", "refresh+jwt", REMOVED])
    def test_the_type_is_that_of_access_tokens(self, forger: Forger, kind: object) -> None:
        """RFC 9068: nothing else that we may once sign is taken for one."""
        assert forger.status(forger.forge(header={"typ": kind})) == 401

    def test_the_organisation_is_that_of_the_sign_in(self, forger: Forger, other_clinic: Clinic) -> None:
        """Nobody carries a session into another organisation."""
        assert forger.status(forger.forge(org=str(other_clinic.organization_id))) == 401

    def test_the_person_is_that_of_the_sign_in(self, forger: Forger, clinic: Clinic) -> None:
        """Nobody speaks for a colleague, nor on a colleague's sign-in."""
        assert clinic.admin.token
        colleague = Forger(forger.app, clinic.admin.token).claims
        assert forger.status(forger.forge(sub=colleague["sub"])) == 401
        assert forger.status(forger.forge(sid=colleague["sid"])) == 401
        assert forger.status(forger.forge(sub=colleague["sub"], sid=colleague["sid"])) == 200

    def test_a_role_in_the_token_counts_for_nothing(self, forger: Forger) -> None:
        """Roles are looked up."""
        forged = forger.forge(roles=["admin"], role="admin", permissions=["user:read"], scope="user:read")
        assert forger.status(forged) == 200
        assert Caller(forger.app, forged).get("/users").status_code == 403


class TestTime:
    """A token is valid from when it was issued, for ten minutes."""

    @pytest.mark.parametrize(
        ("issued", "expires", "expected"),
        [
            (-60, 540, 200),
            (-620, -20, 200),
            (-640, -40, 401),
            (-3600, -3000, 401),
            (20, 620, 200),
            (40, 640, 401),
            (0, 601, 401),
            (0, 86400, 401),
            (-86400, 300, 401),
        ],
        ids=str,
    )
    def test_and_half_a_minute_of_clocks_apart(self, forger: Forger, issued: int, expires: int, expected: int) -> None:
        """A longer lifetime is refused though our own key signed it."""
        now = int(datetime.now(UTC).timestamp())
        assert forger.status(forger.forge(iat=now + issued, nbf=now + issued, exp=now + expires)) == expected

    @pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
    @pytest.mark.parametrize("value", ["soon", None, [], {}, "1e400"])
    def test_times_are_numbers(self, forger: Forger, claim: str, value: object) -> None:
        """Of seconds."""
        assert forger.status(forger.with_claim(claim, value)) == 401

    def test_one_issued_long_ago_is_over(self, app: Flask, nurse: Caller, forger: Forger) -> None:
        """By the program's own hand, of a sign-in that still lives."""
        claims = tokens.Claims(*(UUID(forger.claims[name]) for name in ("sub", "sid", "org")))
        with app.app_context():
            ring = app.extensions["key_ring"]
            fresh = tokens.issue(ring, claims, clock.now())
            old = tokens.issue(ring, claims, clock.now() - timedelta(minutes=11))
        assert [forger.status(fresh), forger.status(old)] == [200, 401]


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "é.é.é", "x" * 5000, "{}", "bnVsbA.bnVsbA.bnVsbA"])
def test_what_is_no_token_is_refused(app: Flask, token: str) -> None:
    """And is no failure of ours."""
    answer = Caller(app).call("GET", "/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401
