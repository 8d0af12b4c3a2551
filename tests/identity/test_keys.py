"""The ring of signing keys."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from flask import Flask
from sqlalchemy import select

from medical.app import create_app
from medical.config import Mode
from medical.identity import keys
from medical.identity.errors import KeyRingLocked
from medical.identity.keys import KeyRing
from medical.identity.models import SigningKey
from medical.identity.permissions import Role
from medical.platform.db import db
from tests.clinic import PASSWORD, Caller, Clinic
from tests.conftest import SECRET, psycopg_url


class TestKeyRing:
    """One active key, shared through the database."""

    def test_an_empty_ring_gets_its_first_key_when_one_is_needed(self, own_app: Flask, own_url: str) -> None:
        with psycopg.connect(psycopg_url(own_url)) as connection:
            connection.execute("DELETE FROM signing_key")
        with own_app.app_context():
            ring = KeyRing(SECRET)
            key_id, _ = ring.signing()
            assert ring.verifying(key_id)
            assert KeyRing(SECRET).signing()[0] == key_id

    def test_making_it_twice_leaves_the_first(self, own_app: Flask) -> None:
        with own_app.app_context():
            before = KeyRing(SECRET).signing()[0]
            KeyRing(SECRET).ensure()
            assert KeyRing(SECRET).signing()[0] == before

    def test_another_secret_does_not_open_it(self, own_app: Flask) -> None:
        with own_app.app_context(), pytest.raises(KeyRingLocked):
            KeyRing("another secret than the one it was made with").ensure()

    def test_the_private_half_is_not_in_the_database_in_clear(self, own_app: Flask) -> None:
        with own_app.app_context():
            _, key = KeyRing(SECRET).signing()
            row = db.session.scalars(select(SigningKey).where(SigningKey.status == "active")).one()
            assert row.private_key
            assert key.private_bytes_raw() not in row.private_key
            assert row.public_key == key.public_key().public_bytes_raw()

    def test_processes_verify_what_any_of_them_signed_before_and_after_a_rotation(
        self, own_app: Flask, own_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keys, "RELOAD_SECONDS", 0)
        with own_app.app_context():
            early = KeyRing(SECRET)
            old_id, _ = early.signing()
            with psycopg.connect(psycopg_url(own_url)) as connection:
                connection.execute("DELETE FROM signing_key WHERE status = 'next'")
                connection.execute("UPDATE signing_key SET status = 'retired', retired_at = now(), private_key = NULL")
            db.session.rollback()
            late = KeyRing(SECRET)
            late.ensure()
            new_id, new_key = late.signing()
            assert new_id != old_id
            assert late.verifying(old_id), "tokens of before are good to their end"
            found = early.verifying(new_id)
            assert found, "a process that read the ring before reads it again for a key it does not know"
            assert found.public_bytes_raw() == new_key.public_key().public_bytes_raw()

    def test_sixteen_processes_that_start_at_once_make_one_key(self, own_app: Flask, own_url: str) -> None:
        with psycopg.connect(psycopg_url(own_url)) as connection:
            connection.execute("DELETE FROM signing_key")

        def start(_number: int) -> str:
            with own_app.app_context():
                ring = KeyRing(SECRET)
                ring.ensure()
                return ring.signing()[0]

        with ThreadPoolExecutor(16) as pool:
            assert len(set(pool.map(start, range(16)))) == 1

    def test_a_locked_ring_is_a_failure_that_tells_the_caller_nothing(self, own_url: str, own_app: Flask) -> None:
        clinic = Clinic(own_app)
        email = clinic.email_of(clinic.user(Role.NURSE, password=PASSWORD))
        other = create_app(
            {"database_url": own_url, "secret_key": "another secret than 4Zk2vQx8Lr6Wt1Ns9Ub3", "mode": Mode.TEST}
        )
        answer = Caller(other).post("/auth/login", {"email": email, "password": PASSWORD})
        with other.app_context():
            db.engine.dispose()
        assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")
        assert "SECRET" not in answer.text

    def test_an_unknown_key_id_has_no_key(self, own_app: Flask) -> None:
        with own_app.app_context():
            assert KeyRing(SECRET).verifying("no such key") is None
