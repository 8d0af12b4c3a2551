"""Service clients: made, changed and closed by administrators, and no more than what they were made for."""

import base64
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from flask import Flask
from psycopg import sql

from medical import access
from medical.identity import clients, service
from medical.identity.permissions import Permission, Role, grantable
from medical.platform.db import Base, Scope, scoped
from tests.clinic import Caller, Clinic, Signer
from tests.conftest import psycopg_url


@pytest.fixture(autouse=True)
def nobody_failed_before(database_url: str) -> None:
    """Wrong tries of one test do not count in the next."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")


def path_of(client: dict[str, Any]) -> str:
    """Where a client is."""
    return f"/service-clients/{client['client_id']}"


def rows_with(database_url: str, text: str) -> list[str]:
    """The tables in which some row, written out, has ``text`` in it."""
    query = sql.SQL("SELECT count(*) FROM {table} t WHERE t::text LIKE {text}")
    with psycopg.connect(psycopg_url(database_url)) as connection:
        return [
            name
            for name in Base.metadata.tables
            if connection.execute(query.format(table=sql.Identifier(name), text=sql.Literal(f"%{text}%"))).fetchone()
            != (0,)
        ]


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Whatever is logged, at the most talkative level."""
    kept: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(f"{record.getMessage()} {record.__dict__}")

    keeper, root = Keeper(logging.DEBUG), logging.getLogger()
    level = root.level
    root.addHandler(keeper)
    root.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(keeper)
    root.setLevel(level)


class TestCreate:
    """A client is made."""

    def test_with_a_secret_that_is_told_once(self, clinic: Clinic) -> None:
        """Of 256 bits (TOK-07)."""
        answer = clinic.admin.post("/service-clients", {"name": "Kiosk", "scopes": ["slot:read", "patient:read"]})
        assert answer.status_code == 201
        made = answer.get_json()
        secret = made.pop("client_secret")
        assert len(base64.urlsafe_b64decode(secret + "=")) == 32
        assert made == {
            "client_id": made["client_id"],
            "name": "Kiosk",
            "scopes": ["patient:read", "slot:read"],
            "jwks": None,
            "active": True,
            "created_by": clinic.admin.id,
            "created_at": made["created_at"],
            "version": 1,
        }
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Location"] == f"/api/v1{path_of(made)}"
        assert clinic.admin.get(path_of(made)).get_json() == made
        assert clinic.admin.get("/service-clients").get_json() == {"items": [made], "next": None}

    def test_and_its_secret_is_nowhere(self, clinic: Clinic, database_url: str, lines: list[str]) -> None:
        """Not in a table, the trail or a log line; by its digest it is found, so the search is a good one."""
        body = {"name": "Kiosk", "scopes": ["slot:read"]}
        client = clinic.admin.post("/service-clients", body, Idempotency_Key="one").get_json()
        token = Caller(clinic.app).ask_token(client).get_json()["access_token"]
        rotated = clinic.admin.post(f"{path_of(client)}/rotate-secret").get_json()["client_secret"]
        for secret in (client["client_secret"], rotated, token):
            assert rows_with(database_url, secret) == []
            assert not any(secret in line for line in lines)
            assert rows_with(database_url, base64.b64encode(secret.encode()).decode()) == []
            assert rows_with(database_url, secret.encode().hex()) == []
        assert rows_with(database_url, sha256(rotated.encode()).hexdigest()) == ["service_client"]
        assert any("/oauth/token" in line for line in lines)

    def test_once_for_one_key_and_tells_the_secret_to_the_first_alone(self, clinic: Clinic, database_url: str) -> None:
        """A repeat gives the same client, without its secret: the store of answers never had it."""
        body = {"name": "Kiosk", "scopes": ["slot:read"]}
        first = clinic.admin.post("/service-clients", body, Idempotency_Key="one")
        again = clinic.admin.post("/service-clients", body, Idempotency_Key="one")
        assert first.get_json()["client_secret"]
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
        assert again.get_json() == first.get_json() | {"client_secret": None}
        assert len(clinic.admin.get("/service-clients").get_json()["items"]) == 1
        with psycopg.connect(psycopg_url(database_url)) as connection:
            query = "SELECT convert_from(body, 'UTF8') FROM idempotency_key WHERE organization_id = %s"
            [(kept,)] = connection.execute(query, [clinic.organization_id]).fetchall()
        assert first.get_json()["client_id"] in kept
        assert first.get_json()["client_secret"] not in kept

    def test_with_keys_and_no_secret(self, clinic: Clinic) -> None:
        """Several, of each kind; and the set comes back as it was given."""
        keys = {"keys": [Signer(name, kid=name).jwk for name in ("EdDSA", "ES256", "ES384", "RS256")]}
        keys["keys"][1] |= {"use": "sig", "alg": "ES256", "key_ops": ["verify"]}
        client = clinic.client("slot:read", jwks=keys)
        assert (client["client_secret"], client["jwks"]) == (None, keys)

    def test_not_with_scopes_that_no_client_has(self, clinic: Clinic) -> None:
        """Every one is named: accounts, clients, the trail, broken glass, one's own sign-in, nonsense."""
        wrong = ["user:create", "service-client:manage", "break-glass:open", "session:own", "*", "patient:read "]
        answer = clinic.admin.post("/service-clients", {"name": "X", "scopes": ["slot:read", *wrong]})
        assert answer.status_code == 422
        assert [problem["pointer"] for problem in answer.get_json()["errors"]] == [
            f"/scopes/{index}" for index in range(1, 7)
        ]
        for body in ({"name": "X"}, {"name": "X", "scopes": []}, {"name": " ", "scopes": ["slot:read"]}):
            assert clinic.admin.post("/service-clients", body).status_code == 422

    def test_may_be_given_all_that_a_client_may(self, clinic: Clinic) -> None:
        """Which is no account, no client, no trail, no care and no broken glass."""
        assert clinic.client()["scopes"] == sorted(grantable())
        nouns = {scope.partition(":")[0] for scope in grantable()}
        people = {
            "organization",
            "appointment",
            "appointment-type",
            "availability",
            "clinician",
            "holiday",
            "location",
            "patient",
            "record",
            "slot",
        }
        assert nouns == people


def private(signer: Signer) -> dict[str, Any]:
    """The key with its secret part."""
    made = jwt.get_algorithm_by_name(signer.algorithm).to_jwk(signer.key, as_dict=True)
    return made | {"kid": "one"}


def public(key: Any, algorithm: str) -> dict[str, Any]:
    """The public half of some key."""
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return made | {"kid": "one"}


GOOD = Signer("ES256").jwk
POINT = base64.urlsafe_b64encode(b"\x01" * 32).decode().rstrip("=")
WRONG_KEYS = {
    "no keys": [],
    "eleven keys": [GOOD | {"kid": str(number)} for number in range(11)],
    "two of one name": [GOOD, Signer("ES256").jwk],
    "no name": [{name: value for name, value in GOOD.items() if name != "kid"}],
    "private EC key": [private(Signer("ES256"))],
    "private OKP key": [private(Signer("EdDSA"))],
    "private RSA key": [private(Signer("RS256"))],
    "a secret": [{"kty": "oct", "k": POINT, "kid": "one"}],
    "short RSA key": [public(rsa.generate_private_key(65537, 1024), "RS256")],  # noqa: S505 - on purpose
    "long RSA number": [Signer("RS256").jwk | {"n": "A" * 2001}],
    "huge RSA number": [Signer("RS256").jwk | {"n": "_" * 1500}],
    "huge exponent": [Signer("RS256").jwk | {"e": "_" * 200}],
    "even exponent": [Signer("RS256").jwk | {"e": "Ag"}],
    "P-521": [public(ec.generate_private_key(ec.SECP521R1()), "ES512")],
    "secp256k1": [public(ec.generate_private_key(ec.SECP256K1()), "ES256K")],
    "Ed448": [public(ed448.Ed448PrivateKey.generate(), "EdDSA")],
    "X25519": [
        {
            "kty": "OKP",
            "crv": "X25519",
            "kid": "one",
            "x": base64.urlsafe_b64encode(x25519.X25519PrivateKey.generate().public_key().public_bytes_raw())
            .decode()
            .rstrip("="),
        }
    ],
    "not on the curve": [GOOD | {"x": POINT, "y": POINT}],
    "short point": [GOOD | {"x": "AAAA"}],
    "no point": [{name: value for name, value in GOOD.items() if name != "x"}],
    "not base64url": [GOOD | {"x": "+/=="}],
    "for encryption": [GOOD | {"use": "enc"}],
    "for signing": [GOOD | {"key_ops": ["sign"]}],
    "another algorithm": [GOOD | {"alg": "RS256"}],
    "an HMAC": [GOOD | {"alg": "HS256"}],
    "from elsewhere": [GOOD | {"jku": "https://elsewhere.example/keys"}],
    "a certificate from elsewhere": [GOOD | {"x5u": "https://elsewhere.example/key"}],
    "a certificate": [GOOD | {"x5c": ["AAAA"]}],
    "no kind": [{"kid": "one"}],
    "no object": ["one"],
}


class TestKeys:
    """What is no set of public keys."""

    @pytest.mark.parametrize("keys", WRONG_KEYS.values(), ids=WRONG_KEYS)
    def test_is_refused(self, clinic: Clinic, keys: list[Any]) -> None:
        """At the place where it is wrong, when made and when changed; and nothing secret is repeated."""
        body = {"name": "X", "scopes": ["slot:read"], "jwks": {"keys": keys}}
        client = clinic.client("slot:read")
        for answer in (
            clinic.admin.post("/service-clients", body),
            clinic.admin.patch(path_of(client), {"jwks": {"keys": keys}}),
        ):
            assert answer.status_code == 422
            assert all(problem["pointer"].startswith("/jwks/keys") for problem in answer.get_json()["errors"])
            secret = keys[0].get("d", "-") if keys and isinstance(keys[0], dict) else "-"
            assert secret == "-" or secret not in answer.text

    def test_every_problem_is_named(self, clinic: Clinic) -> None:
        """With those of the scopes."""
        bad = [GOOD | {"use": "enc"}, GOOD | {"kid": "two"}, GOOD | {"kid": "two", "y": POINT}]
        body = {"name": "X", "scopes": ["user:read"], "jwks": {"keys": bad}}
        problems = clinic.admin.post("/service-clients", body).get_json()["errors"]
        places = ["/scopes/0", "/jwks/keys/0", "/jwks/keys/2/kid", "/jwks/keys/2"]
        assert [problem["pointer"] for problem in problems] == places

    def test_others_are_taken_instead_of_a_secret(self, clinic: Clinic) -> None:
        """From then on the secret and its tokens are void, and there is none to rotate."""
        client, signer = clinic.client("location:read"), Signer()
        program = clinic.program(client=client)
        changed = clinic.admin.patch(path_of(client), {"jwks": signer.jwks})
        assert (changed.status_code, changed.get_json()["jwks"]) == (200, signer.jwks)
        assert program.get("/locations").status_code == 401
        assert Caller(clinic.app).ask_token(client).status_code == 401
        assert signer.ask(clinic.app, client).status_code == 200
        answer = clinic.admin.post(f"{path_of(client)}/rotate-secret")
        assert (answer.status_code, answer.get_json()["code"]) == (409, "client_has_keys")

    def test_others_take_the_place_of_the_old(self, clinic: Clinic) -> None:
        """Which count for nothing any more."""
        old, new = Signer(kid="old"), Signer(kid="new")
        client = clinic.client("slot:read", jwks=old.jwks)
        assert clinic.admin.patch(path_of(client), {"jwks": new.jwks}).status_code == 200
        assert old.ask(clinic.app, client).status_code == 401
        assert new.ask(clinic.app, client).status_code == 200


class TestChange:
    """A client is changed."""

    def test_scopes_hold_from_the_next_request_on(self, clinic: Clinic) -> None:
        """Its tokens end; a new one has what the client may now."""
        client = clinic.client("location:read", "slot:read")
        program = clinic.program(client=client)
        changed = clinic.admin.patch(path_of(client), {"scopes": ["slot:read"]})
        assert (changed.status_code, changed.get_json()["scopes"]) == (200, ["slot:read"])
        assert program.get("/locations").status_code == 401
        assert clinic.program(client=client).get("/locations").status_code == 403

    def test_a_name_disturbs_nobody(self, clinic: Clinic) -> None:
        """Its tokens go on."""
        client = clinic.client("location:read")
        program = clinic.program(client=client)
        assert clinic.admin.patch(path_of(client), {"name": "New"}).get_json()["name"] == "New"
        assert program.get("/locations").status_code == 200

    def test_is_based_on_the_present_version(self, clinic: Clinic) -> None:
        """Or refused, whatever the change."""
        client = clinic.client("slot:read")
        assert clinic.admin.patch(path_of(client), {"name": "New"}, If_Match='"1"').headers["ETag"] == '"2"'
        for answer in (
            clinic.admin.patch(path_of(client), {"name": "Newer"}, If_Match='"1"'),
            clinic.admin.post(f"{path_of(client)}/rotate-secret", If_Match='"1"'),
            clinic.admin.post(f"{path_of(client)}/deactivate", If_Match='"1"'),
        ):
            assert (answer.status_code, answer.get_json()["code"]) == (412, "stale")
        assert clinic.admin.post(f"{path_of(client)}/rotate-secret", If_Match='"2"').headers["ETag"] == '"3"'
        assert clinic.admin.post(f"{path_of(client)}/deactivate", If_Match='"3"').headers["ETag"] == '"4"'

    def test_they_are_listed_by_name(self, clinic: Clinic, other_clinic: Clinic) -> None:
        """Page by page, one's own only."""
        for name in ("C", "A", "B"):
            clinic.client("slot:read", name=name)
        other_clinic.client("slot:read", name="AA")
        first = clinic.admin.get("/service-clients", limit=2).get_json()
        second = clinic.admin.get("/service-clients", limit=2, cursor=first["next"]).get_json()
        assert [one["name"] for one in first["items"] + second["items"]] == ["A", "B", "C"]
        assert second["next"] is None


class TestRotation:
    """A client gets another secret."""

    def test_the_old_one_is_void_at_once(self, clinic: Clinic) -> None:
        """And what it was good for."""
        client = clinic.client("location:read")
        program = clinic.program(client=client)
        rotated = clinic.admin.post(f"{path_of(client)}/rotate-secret").get_json()
        assert rotated["client_secret"] != client["client_secret"]
        assert program.get("/locations").status_code == 401
        assert Caller(clinic.app).ask_token(client).status_code == 401
        assert clinic.program(client=rotated).get("/locations").status_code == 200

    def test_no_token_survives_that_was_got_meanwhile(self, clinic: Clinic) -> None:
        """Asked and rotated at once, twenty times: whatever the old secret got is void afterwards."""
        client = clinic.client("location:read")
        clinic.program(client=client)
        with ThreadPoolExecutor(2) as pool:
            for _ in range(20):
                asked = pool.submit(Caller(clinic.app).ask_token, client)
                rotated = pool.submit(clinic.admin.post, f"{path_of(client)}/rotate-secret").result()
                answer = asked.result()
                assert rotated.status_code == 200
                assert answer.status_code in (200, 401)
                if answer.status_code == 200:
                    late = Caller(clinic.app, answer.get_json()["access_token"])
                    assert late.get("/locations").status_code == 401
                client = rotated.get_json()


class TestDeactivation:
    """A client is closed."""

    def test_ends_its_tokens_at_once(self, clinic: Clinic, database_url: str) -> None:
        """The next request is refused, there is no new token, and opening the account again revives none (AUTH-11)."""
        client = clinic.client("location:read")
        program = clinic.program(client=client)
        closed = clinic.admin.post(f"{path_of(client)}/deactivate")
        assert (closed.status_code, closed.get_json()["active"]) == (200, False)
        assert program.get("/locations").get_json()["code"] == "unauthenticated"
        assert Caller(clinic.app).ask_token(client).status_code == 401
        with psycopg.connect(psycopg_url(database_url)) as connection:
            connection.execute("UPDATE users SET active = true WHERE id = %s", [client["client_id"]])
        assert program.get("/locations").get_json()["code"] == "unauthenticated"

    def test_undoes_a_request_that_is_under_way(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client closed between the check and the write has changed nothing (ACC-16)."""
        from medical.people import service as people

        client, register = clinic.client("patient:create", "patient:search"), people.register_patient
        program = clinic.program(client=client)

        def close_then_register(*given: Any, **more: Any) -> Any:
            with ThreadPoolExecutor(1) as pool:
                close = pool.submit(clinic.admin.post, f"{path_of(client)}/deactivate")
                assert close.result().status_code == 200
            return register(*given, **more)

        monkeypatch.setattr(people, "register_patient", close_then_register)
        body = {"given_name": "Pat", "family_name": "Late", "birth_date": "1980-05-17", "sex": "other"}
        assert program.post("/patients", body).status_code == 401
        monkeypatch.undo()
        assert clinic.admin.get("/patients", q="Late").get_json()["items"] == []

    def test_is_for_good_and_asked_twice_the_same(self, clinic: Clinic) -> None:
        """No change brings it back."""
        client = clinic.client("slot:read")
        first, second = (clinic.admin.post(f"{path_of(client)}/deactivate") for _ in range(2))
        assert first.get_json() == second.get_json()
        for answer in (
            clinic.admin.patch(path_of(client), {"name": "New"}),
            clinic.admin.post(f"{path_of(client)}/rotate-secret"),
        ):
            assert (answer.status_code, answer.get_json()["code"]) == (409, "client_closed")


class TestPower:
    """What a client is, and what it is not."""

    def test_it_sees_its_own_organisation_alone(self, clinic: Clinic, other_clinic: Clinic) -> None:
        """A token of one tenant finds nothing of another, though one key signs for both (hard case 12)."""
        program, own, foreign = clinic.program(), clinic.patient(), other_clinic.patient()
        assert program.get(f"/patients/{own['id']}").status_code == 200
        answer = program.get(f"/patients/{foreign['id']}")
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
        assert program.get("/patients", q=foreign["mrn"]).get_json()["items"] == []
        client = other_clinic.client("slot:read")
        assert clinic.admin.get(path_of(client)).status_code == 404
        assert clinic.admin.post(f"{path_of(client)}/deactivate").status_code == 404

    def test_it_is_no_account_of_a_person(self, clinic: Clinic) -> None:
        """Not listed, not changed, not given a role, a second factor or a clinician's profile."""
        client, admin = clinic.client("slot:read"), clinic.admin
        path = f"/users/{client['client_id']}"
        assert client["client_id"] not in admin.get("/users").text
        clinician = {"user_id": client["client_id"], "specialty": "Surgery", "time_zone": "UTC"}
        for answer in (
            admin.get(path),
            admin.patch(path, {"given_name": "New"}),
            admin.put(f"{path}/roles", {"roles": ["admin"]}),
            admin.post(f"{path}/deactivate"),
            admin.delete(f"{path}/otp"),
            admin.post("/clinicians", clinician),
        ):
            assert answer.status_code == 404

    def test_it_does_not_sign_in_as_people_do(self, clinic: Clinic) -> None:
        """It has no password, and its address is nobody's."""
        client = clinic.client("slot:read")
        for password in (client["client_secret"], "x"):
            body = {"email": clients.address_of(client["client_id"]), "password": password}
            assert Caller(clinic.app).post("/auth/login", body).get_json()["code"] == "invalid_credentials"

    def test_its_role_gives_a_person_nothing(self, clinic: Clinic) -> None:
        """But to see who they are, and to sign out; beside another role it does not count."""
        person = clinic.user(Role.SERVICE)
        for path in ("/locations", "/patients", "/appointments", "/users"):
            assert person.get(path).get_json()["code"] == "forbidden"
        assert person.get("/me").get_json()["permissions"] == ["session:own"]
        both = clinic.user(Role.PATIENT, Role.SERVICE)
        assert both.get("/me").get_json()["roles"] == ["patient"]
        assert both.get("/patients").get_json()["code"] == "forbidden"

    def test_its_token_is_never_fresh(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even if clients could do sensitive acts: no person proved who they are."""
        wide = access.POLICY[Role.SERVICE] | {Permission.USER_CREATE}
        monkeypatch.setitem(access.POLICY, Role.SERVICE, wide)
        access.install()
        try:
            program = clinic.program("user:create")
            answer = program.post("/users", {})
            assert (answer.status_code, answer.get_json()["code"]) == (401, "step_up_required")
        finally:
            monkeypatch.undo()
            access.install()
        assert program.post("/users", {}).get_json()["code"] == "forbidden"

    def test_it_needs_no_second_factor(self, clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever REQUIRE_OTP_FOR says: it could not give one."""
        hooks, sign_in = clinic.app.extensions["http"], clinic.app.extensions["access"]
        program = clinic.program("location:read")
        strict = service.Access(sign_in.ring, sign_in.throttle, sign_in.factors, frozenset(Role))
        monkeypatch.setattr(hooks, "authenticate", partial(service.authenticate, strict))
        assert program.get("/locations").status_code == 200
        assert clinic.user(Role.NURSE).get("/locations").get_json()["code"] == "second_factor_required"

    def test_it_stands_in_the_trail(self, clinic: Clinic, database_url: str) -> None:
        """Under its own id: getting a token, being refused one, asking too much, reading, being denied."""
        client, patient = clinic.client("patient:read"), clinic.patient()
        program = clinic.program(client=client)
        Caller(clinic.app).ask_token(client | {"client_secret": "wrong"})
        Caller(clinic.app).ask_token(client, "patient:search")
        assert program.get(f"/patients/{patient['id']}").status_code == 200
        assert program.get("/patients").status_code == 403
        with psycopg.connect(psycopg_url(database_url)) as connection:
            events = connection.execute(
                "SELECT action, outcome, code, actor_id, actor_roles, patient_id FROM audit_event"
                " WHERE organization_id = %s AND (actor_id = %s OR entity_id = %s) ORDER BY occurred_at",
                [clinic.organization_id, client["client_id"], client["client_id"]],
            ).fetchall()
        own, admin = UUID(client["client_id"]), clinic.admin.user_id
        assert events == [
            ("service-client.created", "success", None, admin, ["admin"], None),
            ("token.issued", "success", None, own, [], None),
            ("token.issued", "refused", "invalid_client", None, [], None),
            ("token.issued", "refused", "invalid_scope", own, [], None),
            ("patient.read", "success", None, own, ["service"], UUID(patient["id"])),
            ("patient.searched", "denied", "forbidden", own, ["service"], None),
        ]

    def test_it_gives_a_new_patient_no_carer_and_sees_everybody_it_may(self, app: Flask, clinic: Clinic) -> None:
        """Row-level security shows it demographics, as the desk's; of diaries what it booked alone."""
        patient, program = clinic.patient(), clinic.program("patient:read")
        with app.app_context(), scoped(Scope(clinic.organization_id, program.user_id)):
            from sqlalchemy import text

            from medical.platform.db import db

            seen = db.session.execute(text("SELECT id FROM patient")).scalars().all()
            assert [str(one) for one in seen] == [patient["id"]]
            assert db.session.execute(text("SELECT count(*) FROM appointment")).scalar() == 0
            db.session.rollback()
