"""A route of the tests' own, on an application like the program's."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from flask import Blueprint, Flask
from sqlalchemy import text

from medical.app import create_app
from medical.audit.events import Action
from medical.config import Mode
from medical.identity.permissions import Permission
from medical.platform.db import db
from medical.platform.http import endpoint
from medical.platform.ids import new_id
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Output, Text, Version
from tests.clinic import Caller, Clinic
from tests.conftest import SECRET


class Made(Output, frozen=True, kw_only=True):
    """What the probe answers."""

    id: UUID
    version: Version


class Ask(Input, frozen=True, kw_only=True):
    """What the probe is asked."""

    name: Text


class Probe:
    """``/api/v1/probe`` does what a test tells it to do."""

    does: Callable[[], None]
    called: int

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.reset()

    def reset(self) -> None:
        """Do nothing, and forget the calls so far."""
        self.does, self.called = lambda: None, 0

    def serve(self) -> Made:
        """Do as told."""
        self.called += 1
        self.does()
        return Made(id=new_id(), version=1)

    def write(self) -> None:
        """Leave a row that the test can look for with ``written``."""
        values = {"id": new_id(), "name": "written by the probe"}
        db.session.execute(
            text(
                "INSERT INTO location (id, organization_id, name, time_zone, version)"
                " VALUES (:id, current_organization(), :name, 'UTC', 1)"
            ),
            values,
        )

    @staticmethod
    def written(caller: Caller) -> int:
        """How many rows of ``write`` there are in the caller's organisation."""
        return len(caller.get("/locations").get_json()["items"])


@pytest.fixture(scope="session")
def probe_session(database_url: str, app: Flask) -> Iterator[Probe]:
    """The probe's application, on the database of this run."""
    probe_app = create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST})
    probe = Probe(probe_app)
    bp = Blueprint("probe", __name__, url_prefix="/api/v1/probe")

    @endpoint(bp.get(""), permission=Permission.SESSION_OWN, query=PageQuery, returns=(200, Made))
    def read(query: PageQuery) -> Made:
        return probe.serve()

    @endpoint(
        bp.get("/audited"), permission=Permission.SESSION_OWN, returns=(200, Made), audit=Action.USER_READ, etag=True
    )
    def read_audited() -> Made:
        return probe.serve()

    @endpoint(
        bp.post(""),
        permission=Permission.SESSION_OWN,
        body=Ask,
        returns=(201, Made),
        audit=Action.USER_CREATED,
        idempotent=True,
        etag=True,
    )
    def make(body: Ask) -> Made:
        return probe.serve()

    @endpoint(bp.patch(""), permission=Permission.SESSION_OWN, body=Ask, returns=(200, Made), if_match=True, etag=True)
    def change(body: Ask, expected_version: int | None) -> Made:
        return probe.serve()

    probe_app.register_blueprint(bp)
    yield probe
    with probe_app.app_context():
        db.engine.dispose()


@pytest.fixture
def probe(probe_session: Probe) -> Probe:
    """The probe, which does nothing yet."""
    probe_session.reset()
    return probe_session


@pytest.fixture
def caller(probe: Probe, clinic: Clinic) -> Caller:
    """An administrator who calls the probe's application."""
    return Caller(probe.app, clinic.admin.token, clinic.admin.user_id)
