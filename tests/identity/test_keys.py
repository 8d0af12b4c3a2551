"""The ring of signing keys."""

import psycopg
import pytest
from flask import Flask
from sqlalchemy import select

from medical.identity.errors import KeyRingLocked
from medical.identity.keys import KeyRing
from medical.identity.models import SigningKey
from medical.platform.db import db
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
            row = db.session.scalars(select(SigningKey)).one()
            assert key.private_bytes_raw() not in row.private_key
            assert row.public_key == key.public_key().public_bytes_raw()

    def test_an_unknown_key_id_has_no_key(self, own_app: Flask) -> None:
        with own_app.app_context():
            assert KeyRing(SECRET).verifying("no such key") is None
