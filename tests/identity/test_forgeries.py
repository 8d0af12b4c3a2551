"""Forty kinds of forged tokens, one answer (TOK-01, -02, -04); and each kind of token in another's place (TOK-03)."""

import hmac
import json
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from medical.identity.permissions import Role
from medical.platform.http import declared_routes
from tests.clinic import PASSWORD, Caller, Clinic, second_factor
from tests.identity.test_tokens import REMOVED, Forger, encoded

OTHER = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NOBODY = "018f0000-0000-7000-8000-000000000000"
TARGET = "http://127.0.0.1:{port}/keys"

Forge = Callable[[Forger], str]


def raw(key: Any) -> bytes:
    """The public half of a key."""
    half: bytes = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return half


def pem(key: Any) -> bytes:
    """The public half of a key as it is published elsewhere."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    half: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, kind)
    return half


def with_header(**header: Any) -> Forge:
    """Signed by our key, under another header."""
    return lambda forger: forger.forge(header=header)


def with_claims(**claims: Any) -> Forge:
    """Signed by our key, with other claims."""
    return lambda forger: forger.forge(**claims)


def by_another_key(**header: Any) -> Forge:
    """Signed by a key of the same kind, which the header brings along or says where to get."""
    return lambda forger: forger.signed(OTHER.sign, header, {})


def by_algorithm(name: str, key: Any) -> Forge:
    """Signed by another algorithm, under our key's id."""
    return lambda forger: jwt.encode(
        forger.claims, key, algorithm=name, headers={"kid": forger.header["kid"], "typ": forger.header["typ"]}
    )


def by_hmac(digest: str, name: str, form: Callable[[Any], bytes]) -> Forge:
    """HMAC with what everybody may know."""
    return lambda forger: forger.signed(partial(hmac.digest, form(forger.key), digest=digest), {"alg": name}, {})


def shifted(iat: int, exp: int) -> Forge:
    """Signed by our key for another time, in seconds from that of a genuine token."""

    def forge(forger: Forger) -> str:
        now = forger.claims["iat"]
        return forger.forge(iat=now + iat, nbf=now + iat, exp=now + exp)

    return forge


def glued(forger: Forger) -> str:
    """The signature of a genuine token on other claims."""
    head, _, signature = forger.genuine.split(".")
    return f"{head}.{encoded(json.dumps(forger.claims | {'sub': NOBODY}).encode())}.{signature}"


JWK = {"kty": "OKP", "crv": "Ed25519", "x": encoded(raw(OTHER))}
FORGERIES: dict[str, Forge] = {
    "alg none": lambda forger: forger.signed(lambda _text: b"", {"alg": "none"}, {}),
    "alg nOnE with a signature": lambda forger: forger.signed(forger.key.sign, {"alg": "nOnE"}, {}),
    "alg missing": with_header(alg=REMOVED),
    "alg of another spelling": with_header(alg="eddsa"),
    "alg Ed448 named": with_header(alg="Ed448"),
    "HS256 with our public key": by_hmac("sha256", "HS256", raw),
    "HS512 with our public key as PEM": by_hmac("sha512", "HS512", pem),
    "HS256 with nothing": by_hmac("sha256", "HS256", lambda _key: b""),
    "ES256": by_algorithm("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ES256K": by_algorithm("ES256K", ec.generate_private_key(ec.SECP256K1())),
    "RS256": by_algorithm("RS256", RSA),
    "PS256": by_algorithm("PS256", RSA),
    "EdDSA on another curve": by_algorithm("EdDSA", ed448.Ed448PrivateKey.generate()),
    "another key under our id": by_another_key(),
    "another key, enclosed as jwk": by_another_key(jwk=JWK),
    "another key, enclosed as x5c": by_another_key(x5c=[encoded(raw(OTHER))]),
    "another key, to be fetched by jku": by_another_key(jku=TARGET),
    "another key, to be fetched by x5u": by_another_key(x5u=TARGET),
    "kid is a URL": by_another_key(kid=TARGET),
    "kid is a path": by_another_key(kid="../../../../dev/null"),
    "kid is SQL": by_another_key(kid="' UNION SELECT 'a' --"),
    "kid is unknown": with_header(kid="AAAA"),
    "kid missing": with_header(kid=REMOVED),
    "crit unknown": with_header(crit=["x"], x=1),
    "crit empty": with_header(crit=[]),
    "b64 false": with_header(crit=["b64"], b64=False),
    "typ JWT": with_header(typ="JWT"),
    "typ refresh": with_header(typ="refresh+jwt"),
    "iss another": with_claims(iss="medical-backend-2"),
    "aud another": with_claims(aud="medical-backend"),
    "sub another": with_claims(sub=NOBODY),
    "sid another": with_claims(sid=NOBODY),
    "org another": with_claims(org=NOBODY),
    "over": shifted(-700, -100),
    "of the future": shifted(300, 900),
    "longer than ten minutes": shifted(0, 601),
    "no expiry": with_claims(exp=REMOVED),
    "no jti": with_claims(jti=REMOVED),
    "signature of other claims": glued,
    "signature cut off": lambda forger: forger.genuine.rpartition(".")[0] + ".",
    "signature cut short": lambda forger: forger.genuine[:-4],
    "five parts": lambda forger: forger.genuine + ".x.y",
}


@pytest.fixture
def forger(app: Flask, clinic: Clinic) -> Forger:
    """Has a genuine token, and our key."""
    return Forger(app, str(clinic.user(Role.NURSE).token))


def test_every_forgery_gets_the_one_answer(app: Flask, forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte that to no token at all, so it tells nothing of what was wrong; and nothing is fetched."""
    id_ = {"X-Request-ID": "one"}

    def asked(token: str) -> tuple[int, bytes, str | None]:
        answer = Caller(app).call("GET", "/me", headers={"Authorization": f"Bearer {token}"} | id_)
        return answer.status_code, answer.data, answer.headers.get("WWW-Authenticate")

    nothing = Caller(app).call("GET", "/me", headers=id_)
    expected = (401, nothing.data, nothing.headers["WWW-Authenticate"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        monkeypatch.setattr(Forger, "signed", placed(listener.getsockname()[1]))
        answers = {name: asked(forge(forger)) for name, forge in FORGERIES.items()}
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {name: answer for name, answer in answers.items() if answer != expected} == {}
    assert asked(forger.genuine)[0] == 200
    assert len(FORGERIES) >= 30


class TestKindsOfTokens:
    """TOK-03: what is one kind of token is no other."""

    @pytest.fixture
    def kinds(self, app: Flask, clinic: Clinic) -> dict[str, str]:
        """One of each, all good."""
        nurse = clinic.user(Role.NURSE, *[role for role in Role if role is not Role.NURSE], password=PASSWORD)
        body = {"email": clinic.email_of(nurse), "password": PASSWORD}
        pair = Caller(app).post("/auth/login", body).get_json()
        totp, codes = second_factor(clinic.user(Role.NURSE))
        return {
            "refresh": pair["refresh_token"],
            "recovery code": codes[0],
            "secret": totp.secret,
            "password": PASSWORD,
        }

    def test_only_an_access_token_opens_a_route(self, app: Flask, kinds: dict[str, str]) -> None:
        """Every route that is not public, with every other secret in its place."""
        asked = 0
        for rule, method, declaration in declared_routes(app):
            if declaration.permission is None:
                continue
            types = {"type_name": "Observation", "owner_type": "Patient", "kind": "problems", "number": 1}
            parts = {name: types.get(name, NOBODY) for name in rule.arguments}
            path = rule.build(parts, append_unknown=False)
            assert path
            for kind, token in kinds.items():
                headers = {"Authorization": f"Bearer {token}"}
                answer = Caller(app).call(method, path[1], headers=headers)
                assert answer.status_code == 401, (kind, path)
                assert '"unauthenticated"' in answer.text
                asked += 1
        assert asked > 100

    def test_an_access_token_refreshes_nothing(self, app: Flask, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)
        answer = Caller(app).post("/auth/refresh", {"refresh_token": str(nurse.token)[:200]})
        assert (answer.status_code, answer.get_json()["code"]) == (401, "invalid_refresh_token")

    def test_neither_is_a_code_or_a_password(self, app: Flask, clinic: Clinic, kinds: dict[str, str]) -> None:
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        email = clinic.email_of(nurse)
        for secret in (kinds["refresh"], str(nurse.token)):
            assert Caller(app).post("/auth/login", {"email": email, "password": secret[:128]}).status_code == 401
        second_factor(nurse)
        body = {"email": email, "password": PASSWORD, "otp": kinds["refresh"][:40]}
        assert Caller(app).post("/auth/login", body).status_code == 401


def placed(port: int) -> Any:
    """``Forger.signed``, with the listener's port in addresses of the header."""
    signed = Forger.signed

    def sign(self: Forger, signs: Any, header: dict[str, Any] | None, changes: dict[str, Any]) -> str:
        real = {name: value.format(port=port) if value == TARGET else value for name, value in (header or {}).items()}
        return signed(self, signs, real, changes)

    return sign
