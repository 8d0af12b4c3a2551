"""Reaching PostgreSQL: waiting until it answers, and saying plainly why it does not."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

from medical.platform.logging import get_logger
from medical.platform.refusal import Refused

LONGEST_PAUSE = 2.0
CONNECT_SECONDS = 5
LISTEN, LISTEN_SECONDS = "LISTEN record_export", 0.5
"""How long it is listened before it is looked whether all is over."""
OLDEST_SERVER = 15

REASONS = {
    "password authentication failed": "wrong_password",
    "no password supplied": "wrong_password",
    "no pg_hba.conf entry": "not_let_in",
    'role "': "no_such_role",
    'database "': "no_such_database",
    "starting up": "starting_up",
    "shutting down": "shutting_down",
    "recovery": "in_recovery",
    "too many": "too_many_connections",
    "remaining connection slots": "too_many_connections",
    "refused": "refused",
    "No such file": "no_socket",
    "resolve host": "unknown_host",
    "Name or service": "unknown_host",
    "timeout": "timeout",
    "timed out": "timeout",
    "unreachable": "unreachable",
}
"""What libpq says, and the word for it in the log; the first that fits."""

FINAL = {"wrong_password", "not_let_in", "no_such_role", "no_such_database"}
"""Reasons that no waiting mends."""

log = get_logger(__name__)


class DatabaseAbsent(Refused):
    """PostgreSQL cannot be used; the text says in one sentence where, why, and how to mend it."""


def conninfo(url: str) -> str:
    """``url`` as libpq takes it: without SQLAlchemy's name of the driver."""
    return "postgresql://" + url.partition("://")[2]


def place(url: str) -> str:
    """Where ``url`` leads, fit for logs: without user and password."""
    parts = conninfo_to_dict(conninfo(url))
    return f"{parts.get('host', 'the local socket')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection]:
    """A short-lived connection; each statement stands for itself. Raises ``psycopg.OperationalError``."""
    with psycopg.connect(conninfo(url), autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        yield connection


def wait_for_database(url: str, seconds: float) -> None:
    """Return once PostgreSQL answers.

    Raises ``DatabaseAbsent`` when ``seconds`` are over, and at once for what waiting does not mend:
    a wrong password, no such role or database, a server that is too old.
    """
    deadline = time.monotonic() + seconds
    attempt = 0
    while True:
        attempt += 1
        try:
            with connected(url) as connection:
                _ensure_recent(connection, url)
                return
        except psycopg.OperationalError as error:
            reason, said = reason_of(error), cause(error)
        pause = min(LONGEST_PAUSE, 0.1 * 2**attempt) * random.uniform(0.5, 1)  # noqa: S311  # spreads attempts
        if reason in FINAL:
            raise DatabaseAbsent(f"PostgreSQL at {place(url)} refuses us ({said}): correct DATABASE_URL")
        if time.monotonic() + pause >= deadline:
            raise DatabaseAbsent(
                f"PostgreSQL at {place(url)} did not answer within {seconds:g} s ({said}):"
                " start it, correct DATABASE_URL, or raise DATABASE_WAIT_SECONDS"
            )
        log.warning("database_waiting", attempt=attempt, reason=reason, place=place(url))
        time.sleep(pause)


def _ensure_recent(connection: psycopg.Connection, url: str) -> None:
    major = connection.info.server_version // 10_000
    if major < OLDEST_SERVER:
        raise DatabaseAbsent(f"PostgreSQL at {place(url)} is version {major}: use {OLDEST_SERVER} or newer")


def reason_of(error: psycopg.OperationalError) -> str:
    """One word for why a connection failed."""
    return next((word for text, word in REASONS.items() if text in str(error)), "unreachable")


def cause(error: BaseException) -> str:
    """What the driver says went wrong, without the hints that it adds."""
    first = str(error).strip().partition("\n")[0]
    return first.rpartition("failed: ")[2] or type(error).__name__


def exports_asked(url: str, over: threading.Event) -> Iterator[None]:
    """Something each time the database says that an export was asked for, until ``over``.

    Where it cannot be listened to, it is tried again; what was said meanwhile is lost.
    """
    while not over.is_set():
        try:
            with connected(url) as connection:
                connection.execute(LISTEN)
                while not over.is_set():
                    if [*connection.notifies(timeout=LISTEN_SECONDS, stop_after=1)]:
                        yield None
        except psycopg.Error as error:
            log.warning("exports_unheard", reason=cause(error), place=place(url))
            over.wait(LONGEST_PAUSE)
