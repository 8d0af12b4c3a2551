"""Whether the process lives, whether it can serve, and its metrics."""

from collections.abc import Callable, Iterable, Iterator

from flask import Blueprint, Flask, current_app
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from medical.platform import metrics
from medical.platform.db import connect_args, db
from medical.platform.errors import Unavailable
from medical.platform.http import endpoint
from medical.platform.logging import get_logger
from medical.platform.metrics import Measured
from medical.platform.revision import wanted_revision
from medical.platform.wire import Output

bp = Blueprint("health", __name__)

Measure = Callable[[Connection], Iterable[Measured]]

log = get_logger(__name__)


def init_app(app: Flask, measure: Measure) -> None:
    """Let ``measure`` say what is to be known of the database."""
    app.extensions["measure"] = measure


class Live(Output, frozen=True, kw_only=True):
    """The process runs."""

    status: str


class Ready(Output, frozen=True, kw_only=True):
    """The process can serve."""

    status: str
    revision: str


class NotReady(Unavailable):
    """The process cannot serve; the code says what is missing."""

    code = "database_unreachable"
    detail = "The database does not answer."


class SchemaNotReady(NotReady):
    """The database's schema is not the one that this program works with."""

    code = "schema_behind"

    def __init__(self, found: str | None, wanted: str) -> None:
        mend = "install the newer program" if found and found > wanted else "run `medical db upgrade`"
        super().__init__(f"The schema is at revision {found or 'none'}, this program needs {wanted}: {mend}.")
        self.members = {"found": found, "wanted": wanted}


@endpoint(bp.get("/health/live"), returns=(200, Live))
def live() -> Live:
    """Say that the process runs; touches nothing else."""
    return Live(status="live")


@endpoint(bp.get("/health/ready"), returns=(200, Ready), errors=[NotReady, SchemaNotReady])
def ready() -> Ready:
    """Say whether requests can be served, or what is missing."""
    wanted = wanted_revision()
    try:
        with _engine().connect() as connection:
            exists = connection.execute(text("SELECT to_regclass('alembic_version')")).scalar()
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar() if exists else None
    except DBAPIError as error:
        raise NotReady from error
    if found != wanted:
        raise SchemaNotReady(found, wanted)
    return Ready(status="ready", revision=wanted)


@endpoint(bp.get("/metrics"), returns=(200, str), media_type=metrics.MEDIA_TYPE)
def show_metrics() -> bytes:
    """Metrics in Prometheus' text format."""
    return metrics.exposition(_measured())


def _measured() -> Iterator[Measured]:
    """What the layers above measure in the database, if it answers."""
    measure: Measure = current_app.extensions["measure"]
    try:
        with _engine().connect() as connection:
            found = list(measure(connection))
    except DBAPIError as error:
        log.warning("database_not_measured", error=type(error.orig).__name__)
        found = []
    yield Measured("medical_database_answers", "Whether the database could be asked for what follows.", bool(found))
    yield from found


def _engine() -> Engine:
    """An engine of its own without a pool: a busy pool is not a missing database."""
    engine: Engine | None = current_app.extensions.get("health_engine")
    if engine is None:
        engine = create_engine(db.engine.url, poolclass=NullPool, connect_args=connect_args(role=None))
        current_app.extensions["health_engine"] = engine
    return engine
