"""A trail of a test module's own, and the key it is sealed with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask

from medical.app import create_app
from medical.audit import export
from medical.audit.sealer import seal_once
from medical.audit.verifier import Problem, Record, Verification
from medical.config import Mode
from medical.identity import keys
from medical.identity.permissions import Role
from medical.platform.db import db
from tests.clinic import Clinic
from tests.conftest import SECRET, MakeDatabase, psycopg_url


@dataclass(frozen=True)
class Trail:
    """A database whose trail a test seals and verifies as it likes."""

    url: str
    app: Flask
    key: Ed25519PrivateKey

    @property
    def public_key(self) -> str:
        """As verifiers are given it."""
        return self.key.public_key().public_bytes_raw().hex()

    def connect(self, role: str | None = None) -> psycopg.Connection[Any]:
        """A connection of the owner's, or as ``role``; each statement stands for itself."""
        connection = psycopg.connect(self.url, autocommit=True)
        if role:
            connection.execute(f"SET ROLE {role}")
        return connection

    def seal(self, limit: int = 5_000) -> int:
        """Seal what waits and is complete; how many events that were."""
        sealed = 0
        with self.connect("medical_sealer") as connection:
            while count := seal_once(connection, self.key, limit):
                sealed += count
        return sealed

    def records(self) -> list[Record]:
        """The trail as its dump has it."""
        with export.snapshot(self.url) as connection:
            return [json.loads(line) for line in export.dump(connection)]

    def problems(self, **given: Any) -> list[Problem]:
        """What a verification finds."""
        return list(Verification([self.public_key], **given).problems(self.records()))

    def waiting(self) -> int:
        """How many events have no place in the chain."""
        query = "SELECT count(*) FROM audit_event WHERE id NOT IN (SELECT event_id FROM audit_link)"
        with self.connect() as connection:
            [(count,)] = connection.execute(query).fetchall()
        return int(count)


@pytest.fixture
def trail(make_database: MakeDatabase, app: Flask) -> Iterator[Trail]:
    """An empty one."""
    url = make_database.migrated()
    own = create_app({"database_url": url, "secret_key": SECRET, "mode": Mode.TEST})
    with own.app_context():
        keys.ensure_ring(own.extensions["settings"])
    yield Trail(psycopg_url(url), own, Ed25519PrivateKey.generate())
    with own.app_context():
        db.engine.dispose()


def live_a_little(clinic: Clinic, patients: int = 4) -> None:
    """Patients are registered, searched for, read and refused."""
    ids = [clinic.patient(family_name=f"Trailed{number}")["id"] for number in range(patients)]
    for word in ("Trailed", "Trailed1", "Nobodyatall"):
        clinic.admin.get("/patients", q=word)
    auditor = clinic.user(Role.AUDITOR)
    for patient_id in ids:
        clinic.admin.get(f"/patients/{patient_id}")
        auditor.get(f"/patients/{patient_id}")
