"""A real PostgreSQL, the application on it, and a clinic of its own for each test.

Nothing is rolled back or emptied: every test works in a new organisation, and row-level security
keeps the organisations apart. So tests commit as the program does, and may race each other.
"""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from argon2 import PasswordHasher
from flask import Flask
from psycopg import sql

from medical.app import create_app
from medical.cli import GARBAGE
from medical.config import Mode
from medical.identity import keys, passwords
from medical.platform import schema
from medical.platform.db import db, sqlalchemy_url
from medical.platform.postgres import EmbeddedPostgres
from tests.cli.program import folder
from tests.clinic import Clinic, Statements


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are processors: tests that start programs wait for them most of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What was loaded until now stays: to look through it for garbage again and again takes a tenth of the time."""
    gc.freeze()
    gc.set_threshold(*GARBAGE)


Prepare = Callable[[Path], Path]
"""Makes the data folder that it is given, and gives it back."""

SECRET = "only for tests: 4Zk2vQx8Lr6Wt1Ns9Ub3"


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """The settings of whoever runs the tests do not reach the program."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "DATABASE_URL",
            "MIGRATION_DATABASE_URL",
            "SECRET_KEY",
            "MEDICAL_MODE",
            "MEDICAL_DATA",
            "SEALER_DATABASE_URL",
            "AUDIT_SEAL_KEY",
            "TRUSTED_PROXIES",
            "ALLOWED_HOSTS",
            "REQUIRE_OTP_FOR",
            "PUBLIC_URL",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("PGOPTIONS", "")
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Passwords are hashed as always, but not at the cost that keeps them safe: that takes a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


COSTLY = passwords.hasher


@pytest.fixture
def costly_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed at the cost that they have in the program."""
    monkeypatch.setattr(passwords, "hasher", COSTLY)


@pytest.fixture(scope="session")
def server_url(plain_environment: None) -> Iterator[str]:
    """Where a role may make databases: ``TEST_DATABASE_URL``, or an embedded server of this run."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with folder() as place, EmbeddedPostgres(place, durable=False) as server:
        yield server.superuser_url


@pytest.fixture(scope="session")
def make_database(server_url: str) -> Iterator["MakeDatabase"]:
    """Makes empty databases, which are gone after the run."""
    maker = MakeDatabase(server_url)
    yield maker
    maker.drop_all()


class MakeDatabase:
    """Calling it makes an empty database and gives its URL."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.names: list[str] = []

    def __call__(self, template: str = "template1") -> str:
        """The URL of a new database: a copy of ``template``."""
        name = f"medical_test_{uuid4().hex[:12]}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        self.names.append(name)
        return sqlalchemy_url(self.server_url, database=name)

    def migrated(self) -> str:
        """The URL of a new database at the head: a copy of one that was migrated once."""
        return self(self._template)

    @cached_property
    def _template(self) -> str:
        url = self()
        schema.migrate(url)
        return self.names[-1]

    def drop_all(self) -> None:
        """Remove what was made."""
        for name in self.names:
            self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composable) -> None:
        with psycopg.connect(psycopg_url(self.server_url), autocommit=True) as connection:
            connection.execute(statement)


def psycopg_url(url: str) -> str:
    """``url`` as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


@pytest.fixture(scope="session")
def database_url(make_database: MakeDatabase) -> str:
    """The database of this run, migrated, as the role that owns it."""
    return make_database.migrated()


@pytest.fixture(scope="session")
def prepared(plain_environment: None) -> Iterator[Prepare]:
    """Makes data folders as a first start leaves them: a cluster with a database at the head, nobody in it.

    For tests of running programs that are not about the first start, which takes seconds.
    """
    with folder() as place:
        with EmbeddedPostgres(place / "data", durable=False) as server:
            schema.migrate(server.owner_url)

        def prepare(data: Path) -> Path:
            subprocess.run(["cp", "-a", str(place / "data"), str(data)], check=True)
            return data

        yield prepare


@pytest.fixture
def data(prepared: Prepare) -> Iterator[Path]:
    """A data folder that was started with before."""
    with folder() as place:
        yield prepared(place / "data")


@pytest.fixture(scope="session")
def app(database_url: str) -> Iterator[Flask]:
    """The application on the database of this run."""
    flask_app = create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST})
    with flask_app.app_context():
        keys.ensure_ring(flask_app.extensions["settings"])
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


@pytest.fixture
def clinic(app: Flask) -> Clinic:
    """A new organisation with nobody in it yet."""
    return Clinic(app)


@pytest.fixture
def other_clinic(app: Flask) -> Clinic:
    """Another organisation on the same database."""
    return Clinic(app)


@pytest.fixture(scope="session")
def open_clinic(app: Flask, database_url: str) -> Clinic:
    """The organisation where people register themselves; there is one at most in a database."""
    clinic = Clinic(app)
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("UPDATE organization SET self_registration = true WHERE id = %s", [clinic.organization_id])
    return clinic


@pytest.fixture
def statements(app: Flask) -> Iterator[Statements]:
    """Counts the SQL statements that the application sends."""
    with app.app_context():
        engine = db.engine
    counter = Statements(engine)
    yield counter
    counter.stop()


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's folder."""
    return Path(__file__).resolve().parent.parent
