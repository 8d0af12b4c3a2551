"""Signing keys move on: next, active, retired, gone (TOK-08); and are published."""

from base64 import urlsafe_b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from math import inf
from threading import Event
from uuid import UUID

import jwt
import psycopg
import pytest
from flask import Flask
from psycopg import sql
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.pool import NullPool

from medical.app import create_app
from medical.config import Mode
from medical.identity import keys, rotation, tokens
from medical.identity.errors import KeyNotKnown, KeyRingLocked
from medical.identity.keys import KeyRing
from medical.identity.models import SigningKey
from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.db import APP_ROLE, db
from tests.clinic import PASSWORD, Caller, Clinic
from tests.conftest import SECRET, psycopg_url

OLD = timedelta(minutes=2)


@pytest.fixture
def owner(own_url: str) -> Engine:
    """The database as its owner reaches it."""
    return create_engine(own_url, poolclass=NullPool)


@pytest.fixture
def second_app(own_app: Flask, own_url: str) -> Iterator[Flask]:
    """Another process on the same database, with a ring of its own."""
    second = create_app({"database_url": own_url, "secret_key": SECRET, "mode": Mode.TEST})
    yield second
    with second.app_context():
        db.engine.dispose()


@pytest.fixture
def nurse(own_app: Flask) -> Caller:
    """Signed in with what was active at the beginning."""
    return Clinic(own_app).user(Role.NURSE)


def grow_old(own_url: str) -> None:
    """Let the next key have been made two minutes ago, so that everybody knows it."""
    with psycopg.connect(psycopg_url(own_url)) as connection:
        connection.execute("UPDATE signing_key SET created_at = created_at - interval '2 minutes'")


def active(owner: Engine) -> str:
    """The id of the key that signs."""
    with owner.begin() as connection:
        found: str = connection.execute(select(SigningKey.id).where(SigningKey.status == "active")).scalar_one()
    return found


def rotate(owner: Engine) -> bool:
    """Rotate once."""
    instead_of = active(owner)
    with owner.begin() as connection:
        return rotation.rotate(connection, KeyRing(SECRET), clock.now(), instead_of=instead_of)


def statuses(owner: Engine) -> list[str]:
    """Those of all keys, oldest first."""
    with owner.begin() as connection:
        return [row.status for row in connection.execute(keys.RING)]


def again(app: Flask, caller: Caller) -> Caller:
    """The caller with a token that this process signs now."""
    content = jwt.decode(caller.token or "", options={"verify_signature": False})
    claims = tokens.Claims(*(UUID(content[name]) for name in ("sub", "sid", "org")))
    with app.app_context():
        return Caller(app, tokens.issue(app.extensions["key_ring"], claims, clock.now()), caller.user_id)


def key_of(caller: Caller) -> str:
    """The id of the key that signed the caller's token."""
    kid: str = jwt.get_unverified_header(caller.token or "")["kid"]
    return kid


class TestRotation:
    """The next key signs, the old one verifies on."""

    def test_the_new_key_signs_at_once_and_old_tokens_stay_good(
        self, own_app: Flask, own_url: str, owner: Engine, nurse: Caller, second_app: Flask
    ) -> None:
        """On processes that do not restart, and that read the ring before."""
        with owner.begin() as connection:
            expected = connection.execute(select(SigningKey.id).where(SigningKey.status == "next")).scalar_one()
        elsewhere = Caller(second_app, nurse.token)
        assert elsewhere.get("/me").status_code == 200
        grow_old(own_url)
        assert rotate(owner)
        for app in (own_app, second_app):
            newer = again(app, nurse)
            assert key_of(newer) == expected != key_of(nurse)
            assert Caller(own_app, newer.token).get("/me").status_code == 200
            assert Caller(second_app, newer.token).get("/me").status_code == 200
        assert nurse.get("/me").status_code == elsewhere.get("/me").status_code == 200
        assert statuses(owner) == ["retired", "active", "next"]

    def test_no_request_fails_under_load(
        self, own_app: Flask, owner: Engine, nurse: Caller, second_app: Flask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two processes, each verifying what the other signs; reading again for an unknown key is off."""
        monkeypatch.setattr(keys, "KEPT_SECONDS", 0.2)
        monkeypatch.setattr(keys, "RELOAD_SECONDS", inf)
        monkeypatch.setattr(rotation, "PUBLISHED", timedelta(seconds=1.2))
        over, apps = Event(), (own_app, second_app)

        def work(number: int) -> tuple[set[str], set[int]]:
            signed, answers = set(), set()
            for turn in count(number):
                last = over.is_set()
                fresh = again(apps[turn % 2], nurse)
                signed.add(key_of(fresh))
                answers.add(Caller(apps[(turn + 1) % 2], fresh.token).get("/me").status_code)
                answers.add(Caller(apps[turn % 2], nurse.token).get("/me").status_code)
                if last:
                    return signed, answers
            raise AssertionError("counting has no end")

        def turn_over(times: int) -> None:
            done = 0
            while done < times:
                try:
                    done += rotate(owner)
                except KeyNotKnown:
                    continue
            over.set()

        with ThreadPoolExecutor(5) as pool:
            workers = [pool.submit(work, number) for number in range(4)]
            try:
                turn_over(2)
            finally:
                over.set()
            found = [worker.result() for worker in workers]
        assert set().union(*(answers for _, answers in found)) == {200}
        assert len(set().union(*(signed for signed, _ in found))) == 3, "each key has signed"

    def test_a_retired_key_verifies_until_its_last_token_is_over(
        self, own_app: Flask, own_url: str, owner: Engine, nurse: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then it fails, is no longer published, and the next rotation removes it."""
        grow_old(own_url)
        rotate(owner)
        now = clock.now()
        with own_app.app_context():
            ring = KeyRing(SECRET)
            for seconds, verifies in ((0, True), (625, True), (631, False)):
                monkeypatch.setattr(clock, "now", lambda seconds=seconds: now + timedelta(seconds=seconds))
                assert (ring.verifying(key_of(nurse)) is not None) is verifies
                assert (key_of(nurse) in ring.published()) is verifies
        with owner.begin() as connection:
            assert [row.status for row in rotation.ring(connection, clock.now())] == ["active", "next"]
        assert statuses(owner) == ["retired", "active", "next"]
        rotate(owner)
        assert statuses(owner) == ["retired", "active", "next"], "the first is gone, the second is retired"

    def test_a_retired_key_has_no_private_half(self, own_url: str, owner: Engine, nurse: Caller) -> None:
        grow_old(own_url)
        rotate(owner)
        with owner.begin() as connection:
            halves = [(row.status, row.private_key is None) for row in connection.execute(keys.RING)]
        assert halves == [("retired", True), ("active", False), ("next", False)]

    def test_a_key_does_not_sign_before_everybody_knows_it(self, owner: Engine, nurse: Caller) -> None:
        """It was made a moment ago; the processes keep what they read for a minute."""
        with pytest.raises(KeyNotKnown):
            rotate(owner)
        with owner.begin() as connection:
            wait = rotation.publish(connection, KeyRing(SECRET), clock.now()) - clock.now()
        assert timedelta(seconds=keys.KEPT_SECONDS) < wait <= rotation.PUBLISHED
        assert statuses(owner) == ["active", "next"]

    def test_a_ring_without_a_next_key_gets_one(self, own_url: str, owner: Engine, nurse: Caller) -> None:
        """As one of an installation that is older than rotation."""
        with psycopg.connect(psycopg_url(own_url)) as connection:
            connection.execute("DELETE FROM signing_key WHERE status = 'next'")
        with pytest.raises(KeyNotKnown):
            rotate(owner)
        with owner.begin() as connection:
            now = clock.now()
            assert rotation.publish(connection, KeyRing(SECRET), now) == now + rotation.PUBLISHED
        assert statuses(owner) == ["active", "next"]

    def test_of_eight_rotations_at_once_one_is_done(self, own_url: str, owner: Engine, nurse: Caller) -> None:
        grow_old(own_url)
        before, keyring = active(owner), KeyRing(SECRET)

        def once(_number: int) -> bool:
            with owner.begin() as connection:
                return rotation.rotate(connection, keyring, clock.now(), instead_of=before)

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(once, range(8))) == [False] * 7 + [True]
        assert statuses(owner) == ["retired", "active", "next"]

    def test_another_secret_rotates_nothing(self, own_url: str, owner: Engine, nurse: Caller) -> None:
        """Or the running processes could not open the key that is to sign."""
        grow_old(own_url)
        before = active(owner)
        other = KeyRing("another secret than the one it was made with")
        with pytest.raises(KeyRingLocked), owner.begin() as connection:
            rotation.rotate(connection, other, clock.now(), instead_of=before)
        with pytest.raises(KeyRingLocked), owner.begin() as connection:
            rotation.replace(connection, other, clock.now())
        assert active(owner) == before

    def test_the_web_process_cannot_change_or_remove_keys(self, own_app: Flask, own_url: str) -> None:
        for statement in ("UPDATE signing_key SET status = 'next'", "DELETE FROM signing_key", "TRUNCATE signing_key"):
            with psycopg.connect(psycopg_url(own_url)) as connection:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(APP_ROLE)))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)


class TestReplacement:
    """Somebody else has a key."""

    def test_every_access_token_fails_at_once(
        self, own_app: Flask, owner: Engine, second_app: Flask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On processes that remember the old key too; who refreshes goes on."""
        clinic = Clinic(own_app)
        doctor = clinic.user(Role.CLINICIAN, password=PASSWORD)
        pair = doctor.post("/auth/login", {"email": clinic.email_of(doctor), "password": PASSWORD}).get_json()
        callers = [Caller(app, pair["access_token"]) for app in (own_app, second_app)]
        assert [caller.get("/me").status_code for caller in callers] == [200, 200]
        with owner.begin() as connection:
            rotation.replace(connection, KeyRing(SECRET), clock.now())
        assert [caller.get("/me").status_code for caller in callers] == [401, 401]
        monkeypatch.setattr(keys, "RELOAD_SECONDS", 0)
        refreshed = callers[1].post("/auth/refresh", {"refresh_token": pair["refresh_token"]}).get_json()
        newer = [Caller(app, refreshed["access_token"]) for app in (own_app, second_app)]
        assert [caller.get("/me").status_code for caller in newer] == [200, 200]
        assert statuses(owner) == ["active", "next"]


class TestPublishedKeys:
    """GET /.well-known/jwks.json."""

    def test_verify_what_the_program_signs(self, own_app: Flask, own_url: str, owner: Engine, nurse: Caller) -> None:
        """By somebody else's library; the next key is there before it signs, a retired one while its tokens live."""
        grow_old(own_url)
        rotate(owner)
        newer = again(own_app, nurse)
        answer = Caller(own_app).get("/.well-known/jwks.json")
        published = jwt.PyJWKSet.from_dict(answer.get_json())
        assert len(published.keys) == 3
        for caller in (nurse, newer):
            key = published[key_of(caller)]
            content = jwt.decode(caller.token or "", key, algorithms=["EdDSA"], audience=tokens.AUDIENCE)
            assert content["sub"] == nurse.id

    def test_say_nothing_of_the_private_half(self, own_app: Flask) -> None:
        for one in Caller(own_app).get("/.well-known/jwks.json").get_json()["keys"]:
            assert set(one) == {"kid", "kty", "crv", "alg", "use", "x"}
            assert (one["kty"], one["crv"], one["alg"], one["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
            assert len(urlsafe_b64decode(one["x"] + "=")) == 32

    def test_may_be_kept_for_less_than_a_key_waits(self, own_app: Flask) -> None:
        """The one answer that is not `no-store`; a refusal of it is."""
        answer = Caller(own_app).get("/.well-known/jwks.json")
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert timedelta(seconds=60) < rotation.PUBLISHED
        refused = Caller(own_app).get("/.well-known/jwks.json", x="1")
        assert (refused.status_code, refused.headers["Cache-Control"]) == (422, "no-store")
