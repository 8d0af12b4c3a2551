"""The database: declarative base, session, and whose rows a transaction may see."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from flask_sqlalchemy import SQLAlchemy
from psycopg import errors as postgres
from sqlalchemy import (
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    Select,
    Text,
    UniqueConstraint,
    Uuid,
    bindparam,
)
from sqlalchemy.engine import Connection, CursorResult, make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, mapped_column, with_loader_criteria
from sqlalchemy.orm.exc import StaleDataError

from medical.config import Settings
from medical.platform.driver import LastingConnection
from medical.platform.errors import (
    AppError,
    DatabaseBusy,
    DatabaseUnreachable,
    FieldProblem,
    InvalidRequest,
    SchemaBehind,
    Stale,
)
from medical.platform.ids import new_id

CONNECT_SECONDS = 2
SESSION_SETTINGS = {
    "timezone": "UTC",
    "lock_timeout": "2s",
    "statement_timeout": "4s",
    "idle_in_transaction_session_timeout": "8s",
}
"""Limits of every connection of the web process, nested as lock < statement < idle transaction."""

APP_ROLE = "medical_app"
"""The role the web process works as: owns nothing, cannot bypass row-level security."""


class Base(DeclarativeBase):
    """Base of all models; every constraint has a name, text has no length (limits live in schemas)."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text()}  # noqa: RUF012 - SQLAlchemy's own form
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def tenant_key(table: str) -> UniqueConstraint:
    """What rows of the same organisation refer to by ``same_organization``."""
    return UniqueConstraint("organization_id", "id", name=f"uq_{table}_organization_id_id")


def same_organization(table: str, column: str, target: str, **options: Any) -> ForeignKeyConstraint:
    """A foreign key that cannot point at another organisation's row (foreign keys bypass row-level security)."""
    return ForeignKeyConstraint(
        ["organization_id", column],
        [f"{target}.organization_id", f"{target}.id"],
        name=f"fk_{table}_{column}_{target}",
        **options,
    )


db = SQLAlchemy(metadata=Base.metadata, disable_autonaming=True)


def sqlalchemy_url(url: str, *, database: str | None = None) -> str:
    """``url`` with the driver this program uses, and another database if one is named."""
    made = make_url(url).set(drivername="postgresql+psycopg")
    return (made.set(database=database) if database else made).render_as_string(hide_password=False)


def connect_args(*, role: str | None) -> dict[str, Any]:
    """Arguments of every connection of the web process; ``role`` is taken on where the login may do more."""
    session = SESSION_SETTINGS | ({"role": role} if role else {})
    return {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "medical-api",
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
    }


def engine_options(settings: Settings) -> dict[str, Any]:
    """Options of the web process's engine."""
    return {
        "connect_args": connect_args(role=APP_ROLE),
        "pool_size": settings.database_pool_size,
        "max_overflow": 0,
        "pool_timeout": CONNECT_SECONDS,
        "pool_use_lifo": True,  # few that have their statements prepared, rather than many
        "hide_parameters": True,
    }


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows the transaction may see, and who is behind it (written into histories)."""

    organization_id: UUID
    user_id: UUID | None = None
    request_id: str | None = None


_scope: ContextVar[Scope | None] = ContextVar("scope", default=None)

SET_SCOPE = (
    "SELECT set_config('app.organization_id', %(app.organization_id)s, true),"
    " set_config('app.user_id', %(app.user_id)s, true), set_config('app.request_id', %(app.request_id)s, true)"
)
"""As the driver takes it, for a transaction that is under way."""


def _settings(scope: Scope) -> dict[str, str]:
    return {
        "app.organization_id": str(scope.organization_id),
        "app.user_id": str(scope.user_id or ""),
        "app.request_id": scope.request_id or "",
    }


def _apply(connection: Connection, scope: Scope) -> None:
    connection.exec_driver_sql(SET_SCOPE, _settings(scope))


def _after_begin(_session: Session, _transaction: Any, connection: Connection) -> None:
    """Every transaction starts with its scope; without one it sees no tenant's rows."""
    if scope := _scope.get():
        driver = connection.connection.driver_connection
        if not (isinstance(driver, LastingConnection) and driver.begin_with(_settings(scope))):
            _apply(connection, scope)


listen(db.session, "after_begin", _after_begin)


def enter(scope: Scope | None) -> None:
    """From here on, in this request or command, work within ``scope`` (None: nobody's rows)."""
    _scope.set(scope)
    if scope and db.session().in_transaction():
        _apply(db.session.connection(), scope)


@contextmanager
def scoped(scope: Scope) -> Iterator[None]:
    """Work within ``scope`` inside the block; commit before leaving it."""
    token = _scope.set(scope)
    try:
        if db.session().in_transaction():
            _apply(db.session.connection(), scope)
        yield
    finally:
        _scope.reset(token)


@contextmanager
def unattended() -> Iterator[None]:
    """Work for the present organisation as the program itself inside the block: sight does not bind it."""
    before = _scope.get()
    if before is None:
        raise LookupError("there is no organisation to work for")
    enter(replace(before, user_id=None))
    try:
        yield
    except BaseException:
        _scope.set(before)  # the transaction is over, and the next one begins with it
        raise
    enter(before)


def scope_organization() -> UUID | None:
    """The organisation the present scope is of, if there is one."""
    scope = _scope.get()
    return scope.organization_id if scope else None


def scope_user() -> UUID | None:
    """The user behind the present scope, if there is one."""
    scope = _scope.get()
    return scope.user_id if scope else None


class Owned:
    """A row of one organisation: queries are narrowed to the scope's, and row-level security guards its table."""

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), default=scope_organization)


class Tenant(Owned):
    """A row of one organisation with an id of its own."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)


OWN_ORGANIZATION = bindparam("own_organization", callable_=scope_organization, type_=Uuid())
OWN_ROWS = with_loader_criteria(Owned, lambda model: model.organization_id == OWN_ORGANIZATION, include_aliases=True)
"""Made once: SQLAlchemy would take longer to make it for each statement than PostgreSQL to answer."""


def _narrow(state: ORMExecuteState) -> None:
    """The first wall: within a scope, every SELECT through the models asks for that organisation's rows only."""
    if state.is_select and scope_organization():
        state.statement = state.statement.options(OWN_ROWS)


listen(db.session, "do_orm_execute", _narrow)


class Ready:
    """A SELECT through the models that is made into SQL once and then run by the driver, narrowed like every other.

    For what most requests ask: SQLAlchemy takes longer to put a statement together than PostgreSQL to answer it.
    """

    def __init__(self, query: Select[Any]) -> None:
        compiled = query.options(OWN_ROWS).compile(dialect=db.engine.dialect)
        self.sql, self._values = str(compiled), compiled.construct_params

    def rows(self, **values: Any) -> CursorResult[Any]:
        """What it finds with these values for its named parameters, as the driver gives it."""
        return db.session.connection().exec_driver_sql(self.sql, self._values(values))


def flush_or_raise(constraints: Mapping[str, type[AppError]]) -> None:
    """Flush; the violation of a constraint named in ``constraints`` is raised as that error.

    The transaction is over after a violation. Any other database error passes through unchanged.
    """
    try:
        db.session.flush()
    except DBAPIError as error:
        if refusal := constraints.get(constraint_of(error) or ""):
            raise refusal() from error
        raise


def constraint_of(error: DBAPIError) -> str | None:
    """The name of the constraint that ``error`` is about, if it is about one."""
    diagnostics = getattr(error.orig, "diag", None)
    return diagnostics.constraint_name if diagnostics else None


TRY_AGAIN = (postgres.SerializationFailure, postgres.DeadlockDetected)
BUSY = (postgres.QueryCanceled, postgres.LockNotAvailable, postgres.TooManyConnections)
UNMIGRATED = (postgres.UndefinedTable, postgres.UndefinedColumn, postgres.UndefinedFunction)


def may_retry(error: Exception) -> bool:
    """Whether the transaction had no effect and may simply be run again (SQLSTATE 40001, 40P01, lost connection)."""
    if not isinstance(error, DBAPIError):
        return False
    return isinstance(error.orig, TRY_AGAIN) or error.connection_invalidated


def _writes_unknown_zone(error: DBAPIError) -> bool:
    """Whether a row was refused for a zone that Python's table has and PostgreSQL's has not."""
    writes = (error.statement or "").startswith(("INSERT", "UPDATE")) and "time_zone" in (error.statement or "")
    return writes and isinstance(error.orig, postgres.InvalidParameterValue)


def refusal_of(error: Exception) -> AppError | None:
    """The refusal that a database error means to the caller, or None when it is a bug of ours."""
    if isinstance(error, StaleDataError):
        return Stale()
    if isinstance(error, TimeoutError):
        return DatabaseBusy()
    if not isinstance(error, DBAPIError):
        return None
    if isinstance(error.orig, UNMIGRATED):
        return SchemaBehind()
    if _writes_unknown_zone(error):
        return InvalidRequest([FieldProblem("/time_zone", "is not known to the database server")])
    if isinstance(error.orig, BUSY + TRY_AGAIN):
        return DatabaseBusy()
    if isinstance(error, OperationalError | InterfaceError):
        return DatabaseUnreachable()
    return None
