"""A database of one's own, for what would disturb others: keys, registration."""

from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask

from medical.app import create_app
from medical.config import Mode
from medical.identity import keys
from medical.platform.db import db
from tests.conftest import SECRET, MakeDatabase, psycopg_url


@pytest.fixture(scope="module", autouse=True)
def nobody_is_throttled(database_url: str) -> Iterator[None]:
    """Wrong sign-ins of one module do not count in the next; all come from one address."""
    yield
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")


@pytest.fixture
def own_url(make_database: MakeDatabase) -> str:
    """A database of this test alone, migrated."""
    return make_database.migrated()


@pytest.fixture
def own_app(own_url: str, app: Flask) -> Iterator[Flask]:
    """The application on it, with a ring of keys."""
    own = create_app({"database_url": own_url, "secret_key": SECRET, "mode": Mode.TEST})
    with own.app_context():
        keys.ensure_ring(own.extensions["settings"])
    yield own
    with own.app_context():
        db.engine.dispose()
