"""The token endpoint: who gets a token, for what, and every way of not getting one."""

import base64
import hmac
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import jwt
import psycopg
import pytest
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from flask import Flask
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

from medical.app import create_app
from medical.config import ConfigurationError, Mode, Settings
from medical.identity.permissions import Role, grantable
from medical.platform import clock
from medical.platform.db import db
from tests.clinic import ASSERTION_TYPE, REMOVED, Caller, Clinic, Form, Signer, day_after
from tests.conftest import SECRET, psycopg_url

GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(autouse=True)
def nobody_failed_before(database_url: str) -> None:
    """Every test has wrong tries of its own, all from one address."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")


def basic(client_id: str, secret: str) -> str:
    """The header of HTTP's Basic scheme."""
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def told(answer: TestResponse) -> tuple[int, Any, dict[str, str]]:
    """All of an answer that may tell something."""
    return (
        answer.status_code,
        answer.get_json(),
        {name: value for name, value in answer.headers if "Request" not in name},
    )


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Status and OAuth's word, of an answer in OAuth's shape."""
    assert answer.content_type == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.get_json()
    assert set(body) == {"error", "error_description"}
    return answer.status_code, body["error"]


class TestSecret:
    """A client shows the secret it was given."""

    def test_gives_a_token_of_five_minutes(self, clinic: Clinic) -> None:
        """And none to carry on with (TOK-04)."""
        answer = Caller(clinic.app).ask_token(clinic.client("slot:read", "patient:read"))
        assert answer.status_code == 200
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
        given = answer.get_json()
        token = given.pop("access_token")
        assert given == {"token_type": "Bearer", "expires_in": 300, "scope": "patient:read slot:read"}
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 300

    def test_counts_in_the_form_and_in_the_header(self, clinic: Clinic) -> None:
        """Both of RFC 6749 section 2.3.1; the id may stand in the form besides the header."""
        client = clinic.client("slot:read")
        header = basic(client["client_id"], client["client_secret"])
        for form in (Form(GRANT), Form(GRANT | {"client_id": client["client_id"]})):
            assert Caller(clinic.app).post("/oauth/token", form, Authorization=header).status_code == 200
        assert Caller(clinic.app).ask_token(client).status_code == 200

    def test_is_over_after_five_minutes(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the token says: the sign-in behind it is over."""
        program = clinic.program("location:read")
        assert program.get("/locations").status_code == 200
        later = clock.now() + timedelta(minutes=5, seconds=1)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert program.get("/locations").get_json()["code"] == "unauthenticated"

    def test_tells_nothing_when_it_is_wrong(self, clinic: Clinic, other_clinic: Clinic) -> None:
        """One answer for wrong, unknown, closed, another's, and for none at all."""
        client, other, signer = clinic.client("slot:read"), other_clinic.client("slot:read"), Signer()
        with_keys, closed = clinic.client("slot:read", jwks=signer.jwks), clinic.client("slot:read")
        assert clinic.admin.post(f"/service-clients/{closed['client_id']}/deactivate").status_code == 200
        guest = Caller(clinic.app)
        person = clinic.user(Role.NURSE)
        answers = [
            guest.ask_token(client | {"client_secret": "wrong"}),
            guest.ask_token(client | {"client_secret": other["client_secret"]}),
            guest.ask_token(client | {"client_id": "01a2159f-bbc7-7770-8602-59babd827de6"}),
            guest.ask_token(client | {"client_id": "nobody"}),
            guest.ask_token(client | {"client_id": client["client_id"].upper()}),
            guest.ask_token(client | {"client_id": person.id}),
            guest.ask_token(closed),
            guest.ask_token(with_keys | {"client_secret": "any"}),
            signer.ask(clinic.app, client),
            guest.post("/oauth/token", Form(GRANT)),
            guest.post("/oauth/token", Form(GRANT | {"client_id": client["client_id"]})),
            guest.post("/oauth/token", Form(GRANT), Authorization=basic(client["client_id"], "wrong")),
            guest.post("/oauth/token", Form(GRANT), Authorization="Basic not base64"),
            guest.post("/oauth/token", Form(GRANT), Authorization="Basic é"),
            guest.post("/oauth/token", Form(GRANT), Authorization="Basic bm8gY29sb24="),
            guest.post("/oauth/token", Form(GRANT), Authorization="Basic " + base64.b64encode(b"\xff:x").decode()),
        ]
        first = told(answers[0])
        assert first[:2] == (
            401,
            {
                "error": "invalid_client",
                "error_description": "There is no such client, or it did not prove itself.",
            },
        )
        assert first[2]["WWW-Authenticate"] == 'Basic realm="medical-backend"'
        assert [told(answer) for answer in answers] == [first] * len(answers)

    def test_is_not_found_by_trying(self, clinic: Clinic) -> None:
        """Wrong tries are counted like those of people (AUTH-05); then even the right one waits."""
        client, guest = clinic.client("slot:read"), Caller(clinic.app)
        statuses = [guest.ask_token(client | {"client_secret": str(number)}).status_code for number in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        answer = guest.ask_token(client)
        assert (answer.status_code, answer.get_json()["code"]) == (429, "too_many_attempts")
        assert int(answer.headers["Retry-After"]) >= 1

    def test_that_is_right_is_never_one_try_too_many(self, clinic: Clinic) -> None:
        """Nor is a scope that the client may not have: it did prove itself."""
        client, guest = clinic.client("slot:read"), Caller(clinic.app)
        for _ in range(30):
            assert guest.ask_token(client).status_code == 200
            assert refusal(guest.ask_token(client, "patient:read")) == (400, "invalid_scope")


class TestRequest:
    """What is no token request."""

    @pytest.mark.parametrize(
        ("body", "word"),
        [
            ("", "invalid_request"),
            ("scope=slot%3Aread", "invalid_request"),
            ("grant_type=", "invalid_request"),
            ("grant_type=password&username=a&password=b", "unsupported_grant_type"),
            ("grant_type=implicit", "unsupported_grant_type"),
            ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
            ("grant_type=client_credentials&scope=a&scope=b", "invalid_request"),
            ("grant_type=client_credentials&other=a&other=b", "invalid_request"),
            ("grant_type=client_credentials&client_id=%00", "invalid_request"),
            ("grant_type=client_credentials&client_id=%FF", "invalid_request"),
            ("grant_type=client_credentials&client_id=" + "x" * 201, "invalid_request"),
            ("grant_type=client_credentials&client_assertion=x", "invalid_request"),
            (f"grant_type=client_credentials&client_assertion_type={ASSERTION_TYPE}", "invalid_request"),
            ("grant_type=client_credentials&client_assertion_type=saml&client_assertion=x", "invalid_request"),
            ("&".join(f"a{number}=b" for number in range(30)), "invalid_request"),
        ],
    )
    def test_is_said_to_be_none(self, app: Flask, body: str, word: str) -> None:
        """In OAuth's words."""
        media = "application/x-www-form-urlencoded"
        answer = app.test_client().post("/oauth/token", data=body, content_type=media)
        assert refusal(answer) == (400, word)

    def test_has_one_proof(self, clinic: Clinic) -> None:
        """Two are refused, even when both are right (RFC 6749 section 2.3)."""
        client, signer, guest = clinic.client("slot:read"), Signer(), Caller(clinic.app)
        header = basic(client["client_id"], client["client_secret"])
        secret = {name: client[name] for name in ("client_id", "client_secret")}
        assertion = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signer.assertion(client)}
        for form, more in [
            (secret, {"Authorization": header}),
            (assertion, {"Authorization": header}),
            (secret | assertion, {}),
            (secret, {"Authorization": f"Bearer {clinic.admin.token}"}),
            ({}, {"Authorization": f"Bearer {clinic.admin.token}"}),
            ({"client_id": clinic.client("slot:read")["client_id"]}, {"Authorization": header}),
        ]:
            assert refusal(guest.post("/oauth/token", Form(GRANT | form), **more)) == (400, "invalid_request")

    def test_is_a_form(self, clinic: Clinic) -> None:
        """Not JSON, and nothing of it in the address."""
        guest, client = Caller(clinic.app), clinic.client("slot:read")
        assert guest.post("/oauth/token", GRANT).get_json()["code"] == "unsupported_media_type"
        shown = f"client_id={client['client_id']}&client_secret={client['client_secret']}"
        answer = guest.post(f"/oauth/token?{shown}", Form(GRANT))
        assert (answer.status_code, answer.get_json()["code"]) == (422, "invalid_request")
        assert client["client_secret"] not in answer.text

    def test_may_have_more_in_it(self, clinic: Clinic) -> None:
        """Unknown parameters count for nothing, empty ones are not there (RFC 6749 section 3.2)."""
        answer = Caller(clinic.app).ask_token(clinic.client("slot:read"), resource="x", client_assertion="")
        assert answer.status_code == 200


class TestScopes:
    """A token allows what the client may, what clients may, and what was asked: all three (ACC-14)."""

    def test_are_all_of_the_clients_unless_fewer_are_asked(self, clinic: Clinic) -> None:
        """By name, with spaces between."""
        client = clinic.client("patient:read", "patient:search", "slot:read")
        guest = Caller(clinic.app)
        assert guest.ask_token(client).get_json()["scope"] == "patient:read patient:search slot:read"
        assert guest.ask_token(client, "slot:read").get_json()["scope"] == "slot:read"
        assert guest.ask_token(client, "slot:read patient:read").get_json()["scope"] == "patient:read slot:read"

    @pytest.mark.parametrize("asked", ["patient:search", "slot:read patient:search", "user:create", "nonsense", "*"])
    def test_are_never_more_than_the_clients(self, clinic: Clinic, asked: str) -> None:
        """Asked too much, nothing is given."""
        answer = Caller(clinic.app).ask_token(clinic.client("slot:read", "patient:read"), asked)
        assert refusal(answer) == (400, "invalid_scope")
        assert asked not in answer.text

    def test_are_never_more_than_a_clients_policy(self, clinic: Clinic, database_url: str) -> None:
        """Even if the client's row says so; and a token that says so opens nothing."""
        client = clinic.client("location:read")
        program = clinic.program(client=client)
        with psycopg.connect(psycopg_url(database_url)) as connection:
            wide = ["location:read", "user:create", "user:read"]
            connection.execute("UPDATE service_client SET scopes = %s WHERE id = %s", [wide, client["client_id"]])
            connection.execute("UPDATE auth_session SET scopes = %s WHERE user_id = %s", [wide, client["client_id"]])
        assert Caller(clinic.app).ask_token(client).get_json()["scope"] == "location:read"
        assert refusal(Caller(clinic.app).ask_token(client, "user:read")) == (400, "invalid_scope")
        assert program.get("/users").get_json()["code"] == "forbidden"
        assert program.get("/locations").status_code == 200

    def test_to_read_is_not_to_search(self, clinic: Clinic) -> None:
        """Nor the other way round."""
        patient = clinic.patient()
        reader, searcher = clinic.program("patient:read"), clinic.program("patient:search")
        assert reader.get(f"/patients/{patient['id']}").status_code == 200
        assert reader.get("/patients", q=patient["mrn"]).get_json()["code"] == "forbidden"
        assert searcher.get("/patients", q=patient["mrn"]).status_code == 200
        assert searcher.get(f"/patients/{patient['id']}").get_json()["code"] == "forbidden"

    def test_to_write_is_not_to_read(self, clinic: Clinic) -> None:
        """Nor are what a change answers, or whom a new patient is like, ways to read."""
        patient = clinic.patient(family_name="Quorra", birth_date="1977-07-07")
        writer = clinic.program("patient:update", "patient:create", "appointment:book")
        path = f"/patients/{patient['id']}"
        for answer in (
            writer.get(path),
            writer.get("/patients"),
            writer.get("/appointments"),
            writer.patch(path, {"phone": "+49 30 901820"}),
        ):
            assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden")
        assert clinic.admin.get(path).get_json() == patient
        like = {name: patient[name] for name in ("given_name", "family_name", "birth_date", "sex")}
        refused = writer.post("/patients", like)
        assert (refused.status_code, refused.get_json()["code"]) == (409, "possible_duplicate")
        assert "candidates" not in refused.get_json()
        assert clinic.admin.post("/patients", like).get_json()["candidates"]

    def test_narrow_the_token_and_not_the_client_alone(self, clinic: Clinic) -> None:
        """A token asked narrower is narrower."""
        patient, client = clinic.patient(), clinic.client("patient:read", "patient:update")
        path = f"/patients/{patient['id']}"
        narrow, wide = clinic.program("patient:read", client=client), clinic.program(client=client)
        assert narrow.get(path).status_code == 200
        assert narrow.patch(path, {"phone": "+49 30 901820"}).get_json()["code"] == "forbidden"
        assert wide.patch(path, {"phone": "+49 30 901820"}).status_code == 200

    def test_know_nothing_of_ones_own_sign_in(self, clinic: Clinic) -> None:
        """A client has no password to change, and nothing to prove itself again with."""
        program = clinic.program()
        for path in ("/auth/logout", "/auth/step-up", "/me/password", "/me/otp"):
            assert program.post(path, {"password": "x"} if path == "/auth/step-up" else None).status_code in (403, 415)
        assert program.get("/me").get_json()["code"] == "forbidden"


class TestAssertion:
    """A client shows what it signed (TOK-11)."""

    @pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES384", "RS256", "RS384"])
    def test_counts_with_each_algorithm(self, clinic: Clinic, algorithm: str) -> None:
        """Of those that the metadata names."""
        signer = Signer(algorithm)
        client = clinic.client("slot:read", jwks=signer.jwks)
        assert client["client_secret"] is None
        answer = signer.ask(clinic.app, client)
        assert (answer.status_code, answer.get_json().get("scope")) == (200, "slot:read")

    @pytest.mark.parametrize(
        "claims",
        [
            {"aud": "http://localhost"},
            {"aud": ["http://localhost/oauth/token"]},
            {"iat": REMOVED},
            {"exp": 299},
            {"nbf": 0},
            {"iat": 20},
        ],
    )
    def test_may_be_for_the_issuer_and_leave_out_what_is_optional(self, clinic: Clinic, claims: dict[str, Any]) -> None:
        """Times are seconds from now."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        assert signer.ask(clinic.app, client, signer.assertion(client, **from_now(claims))).status_code == 200

    @pytest.mark.parametrize(
        "claims",
        [
            {"iss": REMOVED},
            {"sub": REMOVED},
            {"aud": REMOVED},
            {"exp": REMOVED},
            {"jti": REMOVED},
            {"iss": "somebody else"},
            {"iss": 5},
            {"sub": 5},
            {"sub": ["a"]},
            {"sub": "\ud800"},
            {"iss": "\ud800"},
            {"exp": 10**400},
            {"iat": -(10**400)},
            {"aud": "https://elsewhere.example/oauth/token"},
            {"aud": "http://localhost/oauth/token/"},
            {"aud": "http://localhost/"},
            {"aud": "http://LOCALHOST/oauth/token"},
            {"aud": ["http://localhost/oauth/token", "https://elsewhere.example"]},
            {"aud": []},
            {"aud": None},
            {"exp": 360},
            {"exp": 3600, "iat": REMOVED},
            {"exp": -31},
            {"exp": "240"},
            {"exp": None},
            {"exp": True},
            {"nbf": 60},
            {"iat": 60},
            {"iat": -600},
            {"iat": "now"},
            {"jti": ""},
            {"jti": "x" * 201},
            {"jti": 5},
        ],
        ids=str,
    )
    def test_with_a_wrong_claim_is_refused(self, clinic: Clinic, claims: dict[str, Any]) -> None:
        """Times are seconds from now."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        assertion = Untyped(signer).assertion(client, **from_now(claims))
        assert refusal(signer.ask(clinic.app, client, assertion)) == (401, "invalid_client")
        assert signer.ask(clinic.app, client).status_code == 200

    @pytest.mark.parametrize(
        "header",
        [
            {"kid": REMOVED},
            {"kid": "two"},
            {"kid": "../../../etc/passwd"},
            {"kid": "' OR 1=1 --"},
            {"kid": "https://elsewhere.example/key"},
            {"kid": 5},
            {"kid": ["one"]},
            {"jku": "https://elsewhere.example/keys"},
            {"x5u": "https://elsewhere.example/key"},
            {"x5c": ["AAAA"]},
            {"jwk": {"kty": "EC"}},
            {"crit": ["exp"], "exp": 1},
            {"crit": ["b64"], "b64": False},
            {"b64": True},
            {"typ": "at+jwt"},
            {"typ": "refresh"},
            {"typ": 5},
            {"alg": "none"},
            {"alg": "ES384"},
            {"alg": "RS256"},
            {"alg": "EdDSA"},
            {"alg": "ES512"},
            {"alg": "PS256"},
            {"alg": "HS256"},
            {"alg": ""},
            {"alg": None},
            {"alg": ["ES256"]},
        ],
        ids=str,
    )
    def test_with_a_wrong_header_is_refused(
        self, clinic: Clinic, header: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And nothing is fetched from where it says (TOK-01, TOK-02)."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        called: list[Any] = []
        monkeypatch.setattr(socket.socket, "connect", lambda _self, address: called.append(address))
        answer = signer.ask(clinic.app, client, Untyped(signer).assertion(client, header))
        assert refusal(answer) == (401, "invalid_client")
        assert called == []

    def test_signed_by_somebody_else_is_refused(self, clinic: Clinic) -> None:
        """Another client, a stranger with the same kid, a key in the header, our own access token, no signature."""
        signer, other = Signer(), Signer()
        client, another = clinic.client(jwks=signer.jwks), clinic.client(jwks=other.jwks)
        good = signer.assertion(client)
        head, body, signature = good.split(".")
        public = signer.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        confused = Untyped(signer).parts(client, {"alg": "HS256"})
        keyed = hmac.digest(public, confused.encode(), "sha256")
        for assertion in (
            other.assertion(client),
            other.assertion(client, {"jwk": other.jwk}),
            other.assertion(client, iss=another["client_id"]),
            clinic.admin.token,
            clinic.program("slot:read").token,
            f"{head}.{body}.",
            f"{head}.{body}.{'A' * len(signature)}",
            f"{head}.{encoded({'sub': client['client_id']})}.{signature}",
            f"{confused}.{base64.urlsafe_b64encode(keyed).decode().rstrip('=')}",
            "a.b.c",
            "é",
            "[" * 9000,
        ):
            assert assertion
            assert refusal(signer.ask(clinic.app, client, assertion)) == (401, "invalid_client")
        assert signer.ask(clinic.app, client, good).status_code == 200

    def test_keeps_to_the_algorithm_of_its_key(self, clinic: Clinic) -> None:
        """A good signature of another is none: of a key that names one, of a curve that goes with one."""
        signer = Signer("RS256")
        client = clinic.client("slot:read", jwks={"keys": [signer.jwk | {"alg": "RS256"}]})
        other = signer.assertion(client, {"alg": "RS384"})
        assert refusal(signer.ask(clinic.app, client, other)) == (401, "invalid_client")
        assert signer.ask(clinic.app, client).status_code == 200
        curve = Signer("ES256")
        client = clinic.client("slot:read", jwks=curve.jwks)
        text = Untyped(curve).parts(client, {"alg": "ES384"})
        r, s = decode_dss_signature(curve.key.sign(text.encode(), ECDSA(SHA384())))
        raw = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode().rstrip("=")
        assert refusal(curve.ask(clinic.app, client, f"{text}.{raw}")) == (401, "invalid_client")

    def test_is_of_the_client_that_is_named(self, clinic: Clinic) -> None:
        """If one is named besides."""
        signer = Signer()
        client, other = clinic.client("slot:read", jwks=signer.jwks), clinic.client("slot:read")
        assert signer.ask(clinic.app, client, client_id=client["client_id"]).status_code == 200
        assert refusal(signer.ask(clinic.app, client, client_id=other["client_id"])) == (400, "invalid_request")

    def test_counts_once(self, clinic: Clinic) -> None:
        """Whatever was asked for with it; and a new one with the same jti is the same."""
        signer = Signer()
        client = clinic.client("slot:read", "patient:read", jwks=signer.jwks)
        assertion = signer.assertion(client, jti="once")
        assert signer.ask(clinic.app, client, assertion).status_code == 200
        assert refusal(signer.ask(clinic.app, client, assertion)) == (401, "invalid_client")
        again = signer.assertion(client, jti="once", aud="http://localhost")
        assert refusal(signer.ask(clinic.app, client, again)) == (401, "invalid_client")
        spent = signer.assertion(client, jti="twice")
        assert refusal(signer.ask(clinic.app, client, spent, scope="user:create")) == (400, "invalid_scope")
        assert refusal(signer.ask(clinic.app, client, spent)) == (401, "invalid_client")

    def test_of_another_client_may_have_the_same_jti(self, clinic: Clinic) -> None:
        """It is once per client; and one that did not count leaves nothing."""
        signer = Signer()
        one, two = clinic.client("slot:read", jwks=signer.jwks), clinic.client("slot:read", jwks=signer.jwks)
        assert Signer().ask(clinic.app, one, Signer().assertion(one, jti="the same")).status_code == 401
        assert signer.ask(clinic.app, one, signer.assertion(one, jti="the same")).status_code == 200
        assert signer.ask(clinic.app, two, signer.assertion(two, jti="the same")).status_code == 200

    def test_counts_once_of_two_at_once(self, clinic: Clinic) -> None:
        """Two at a time, twenty times: exactly one of them."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        assert signer.ask(clinic.app, client).status_code == 200
        with ThreadPoolExecutor(2) as pool:
            for _ in range(20):
                assertion = signer.assertion(client)
                asked = [pool.submit(signer.ask, clinic.app, client, assertion) for _ in range(2)]
                assert sorted(one.result().status_code for one in asked) == [200, 401]

    def test_is_forgotten_once_it_is_over(
        self, clinic: Clinic, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So the table stays small; and it is not good again."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        old = signer.assertion(client)
        assert signer.ask(clinic.app, client, old).status_code == 200
        later = clock.now() + timedelta(minutes=5)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert signer.ask(clinic.app, client).status_code == 200
        with psycopg.connect(psycopg_url(database_url)) as connection:
            query = "SELECT count(*) FROM client_assertion WHERE client_id = %s"
            assert connection.execute(query, [client["client_id"]]).fetchone() == (1,)
        assert refusal(signer.ask(clinic.app, client, old)) == (401, "invalid_client")


class Untyped:
    """Signs with a signer's key whatever it is told, where the library would object."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def parts(self, client: dict[str, Any], header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Head and body."""
        plain = self.signer.assertion(client)
        head, body = jwt.get_unverified_header(plain), jwt.decode(plain, options={"verify_signature": False})
        return f"{encoded(head | (header or {}))}.{encoded(body | claims)}"

    def assertion(self, client: dict[str, Any], header: dict[str, Any] | None = None, **claims: Any) -> str:
        """All of it."""
        text = self.parts(client, header, **claims)
        signature = jwt.get_algorithm_by_name(self.signer.algorithm).sign(text.encode(), self.signer.key)
        return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def encoded(part: dict[str, Any]) -> str:
    """A part of a token, without what shall not be there."""
    kept = {name: value for name, value in part.items() if value is not REMOVED}
    return base64.urlsafe_b64encode(json.dumps(kept).encode()).decode().rstrip("=")


def from_now(claims: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers among times are meant from now."""
    now = int(clock.now().timestamp())
    times = {name: value for name, value in claims.items() if name in ("exp", "iat", "nbf") and type(value) is int}
    return claims | {name: now + value for name, value in times.items()}


class TestAnotherPartysClient:
    """Authlib asks, which knows nothing of us."""

    def test_gets_a_token_by_secret(self, clinic: Clinic) -> None:
        """In the header and in the form."""
        client = clinic.client("slot:read")
        for method in ("client_secret_basic", "client_secret_post"):
            auth = ClientAuth(client["client_id"], client["client_secret"], method)
            assert self.asked(clinic.app, auth).status_code == 200

    def test_gets_a_token_by_signature(self, clinic: Clinic) -> None:
        """With an EC key, and a lifetime that we take."""
        signer = Signer("ES256")
        client = clinic.client("slot:read", jwks=signer.jwks)
        pem = signer.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        exp = int(clock.now().timestamp()) + 120
        method = PrivateKeyJWT(claims={"exp": exp}, headers={"kid": "one"}, alg="ES256")
        auth = ClientAuth(client["client_id"], ECKey.import_key(pem), method)
        assert self.asked(clinic.app, auth).status_code == 200

    def asked(self, app: Flask, auth: ClientAuth) -> TestResponse:
        """The answer to what it sends."""
        body = "grant_type=client_credentials"
        uri, headers, body = auth.prepare("POST", "http://localhost/oauth/token", {}, body)
        assert uri == "http://localhost/oauth/token"
        return Caller(app).call("POST", "/oauth/token", Form(parse_qsl(body)), headers)


class TestMetadata:
    """What programs read first (RFC 8414)."""

    @pytest.fixture
    def public(self, app: Flask, database_url: str) -> Iterator[Flask]:
        """The program, which knows its address."""
        settings = {"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST}
        public = create_app(settings | {"public_url": "https://api.example.org"})
        yield public
        with public.app_context():
            db.engine.dispose()

    def test_is_right_by_another_partys_judgement(self, public: Flask) -> None:
        """Each member."""
        document = Caller(public).get("/.well-known/oauth-authorization-server").get_json()
        judged = AuthorizationServerMetadata(document)
        for name in judged.REGISTRY_KEYS:
            getattr(judged, f"validate_{name}")()
        assert document["issuer"] == "https://api.example.org"
        assert document["token_endpoint"] == "https://api.example.org/oauth/token"

    def test_lists_what_is_there_and_nothing_else(self, app: Flask) -> None:
        """The same for everybody."""
        document = Caller(app).get("/.well-known/oauth-authorization-server").get_json()
        assert document == {
            "issuer": "http://localhost",
            "authorization_endpoint": "http://localhost/oauth/authorize",
            "token_endpoint": "http://localhost/oauth/token",
            "introspection_endpoint": "http://localhost/oauth/introspect",
            "revocation_endpoint": "http://localhost/oauth/revoke",
            "jwks_uri": "http://localhost/.well-known/jwks.json",
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
                "none",
            ],
            "token_endpoint_auth_signing_alg_values_supported": ["EdDSA", "ES256", "ES384", "RS256", "RS384"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": sorted([*grantable(), "launch", "launch/patient", "offline_access", "online_access"]),
        }

    def test_and_assertions_keep_to_the_address_that_is_set(self, clinic: Clinic, public: Flask) -> None:
        """Whatever name the request gives the server."""
        signer = Signer()
        client = clinic.client("slot:read", jwks=signer.jwks)
        assert refusal(signer.ask(public, client)) == (401, "invalid_client")
        for audience in ("https://api.example.org/oauth/token", "https://api.example.org"):
            assert signer.ask(public, client, signer.assertion(client, aud=audience)).status_code == 200

    @pytest.mark.parametrize(
        "value", ["api.example.org", "ftp://a.example", "https://", "https://a.example/api", "https://a:b@c.example?x"]
    )
    def test_an_address_that_is_none_stops_the_start(self, value: str) -> None:
        """With words that help."""
        with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
            Settings.load(environ={"PUBLIC_URL": value})
        assert Settings.load(environ={"PUBLIC_URL": "https://a.example:8443/"}).public_url == "https://a.example:8443"


class TestBookings:
    """A client acts on what it booked, and sees nothing of other diaries (matrix: book, move, cancel)."""

    def test_are_its_own(self, clinic: Clinic) -> None:
        """Not the desk's, not another client's."""
        doctor, kind, patient = clinic.clinician(time_zone="UTC"), clinic.appointment_type(), clinic.patient()
        clinic.hours(doctor)
        ours, theirs = clinic.program(), clinic.program()
        desk = clinic.appointment(patient, doctor, kind, day_after(7, "09:00"))
        made = ours.post(
            "/appointments", clinic.booking(patient, doctor, kind, day_after(7, "10:00")) | {"reason": "x"}
        )
        assert made.status_code == 201
        booked = made.get_json()
        assert [one["id"] for one in ours.get("/appointments").get_json()["items"]] == [booked["id"]]
        assert theirs.get("/appointments").get_json()["items"] == []
        for program, other in ((ours, desk), (theirs, desk), (theirs, booked)):
            for call in (
                program.get(f"/appointments/{other['id']}"),
                program.get(f"/appointments/{other['id']}/history"),
                program.post(f"/appointments/{other['id']}/cancel", {"reason": "x"}),
                program.post(f"/appointments/{other['id']}/reschedule", {"start": day_after(7, "11:00")}),
                program.post(f"/appointments/{other['id']}/check-in"),
                program.post(f"/appointments/{other['id']}/no-show"),
            ):
                assert (call.status_code, call.get_json()["code"]) == (404, "not_found")
        path = f"/appointments/{booked['id']}"
        assert ours.get(path).get_json()["reason"] == "x"
        assert ours.post(f"{path}/reschedule", {"start": day_after(7, "12:00")}).status_code == 200
        assert ours.post(f"{path}/cancel", {"reason": "x"}).status_code == 200
        assert clinic.admin.get(f"/appointments/{desk['id']}").get_json()["status"] == "booked"
