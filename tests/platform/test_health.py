"""Whether the process lives, and whether it can serve."""

from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask

from medical.app import create_app
from medical.config import Mode
from medical.platform import schema
from medical.platform.db import db
from medical.platform.revision import wanted_revision
from tests.clinic import Caller
from tests.conftest import SECRET, MakeDatabase, psycopg_url


@pytest.fixture
def own_database(make_database: MakeDatabase) -> str:
    """An empty database of this test alone."""
    return make_database()


@pytest.fixture
def own_app(own_database: str, app: Flask) -> Iterator[Flask]:
    """The application on it."""
    own = create_app({"database_url": own_database, "secret_key": SECRET, "mode": Mode.TEST})
    yield own
    with own.app_context():
        db.engine.dispose()


class TestLive:
    """200 while the process runs."""

    def test_needs_no_database(self) -> None:
        """A process without its database is alive, and must not be restarted for it."""
        lost = create_app({"database_url": "postgresql://u@127.0.0.1:1/x", "secret_key": SECRET, "mode": Mode.TEST})
        answer = Caller(lost).get("/health/live")
        assert (answer.status_code, answer.get_json()) == (200, {"status": "live"})
        ready = Caller(lost).get("/health/ready")
        assert (ready.status_code, ready.get_json()["code"]) == (503, "database_unreachable")


class TestReady:
    """200, or 503 naming what is missing."""

    def test_names_the_revision(self, app: Flask) -> None:
        """The one that the program needs and the database has."""
        answer = Caller(app).get("/health/ready")
        assert answer.status_code == 200
        assert answer.get_json() == {"status": "ready", "revision": wanted_revision()}

    def test_flips_both_ways_with_the_schema(self, own_app: Flask, own_database: str) -> None:
        """Empty, migrated, at an older revision, and migrated again: without a restart."""
        caller, wanted = Caller(own_app), wanted_revision()
        seen = [self.state(caller)]
        schema.migrate(own_database)
        seen.append(self.state(caller))
        for revision in ("0001", wanted):
            with psycopg.connect(psycopg_url(own_database)) as connection:
                connection.execute("UPDATE alembic_version SET version_num = %s", [revision])
            seen.append(self.state(caller))
        assert seen == [
            (503, "schema_behind", None, wanted),
            (200, None, None, None),
            (503, "schema_behind", "0001", wanted),
            (200, None, None, None),
        ]

    def test_a_request_meanwhile_is_told_so(self, own_app: Flask) -> None:
        """503 with the same word, and when to come again."""
        answer = Caller(own_app).post("/auth/login", {"email": "a@example.org", "password": "any at all, really"})
        assert (answer.status_code, answer.get_json()["code"]) == (503, "schema_behind")
        assert answer.headers["Retry-After"] == "1"

    def test_a_busy_pool_is_not_a_missing_database(self, database_url: str, app: Flask) -> None:
        """Or a busy moment would take every process out of service."""
        small = create_app(
            {"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST, "database_pool_size": 1}
        )
        with small.app_context():
            engine = db.engine
        with engine.connect():
            assert Caller(small).get("/health/ready").status_code == 200
        engine.dispose()

    @staticmethod
    def state(caller: Caller) -> tuple[int, str | None, str | None, str | None]:
        """Status, code, and the revisions found and wanted."""
        answer = caller.get("/health/ready")
        body = answer.get_json()
        return answer.status_code, body.get("code"), body.get("found"), body.get("wanted")
