"""The driver's connection, but for habits that cost more than what a request asks for."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import Escaping, ExecStatus, TransactionStatus

OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class LastingConnection(psycopg.Connection[Any]):
    """A connection that keeps its prepared statements when a transaction is rolled back.

    The driver forgets them then, for a rollback may take back that a table was made. The web process makes none,
    but rolls back after every read that leaves no trail and every refusal: the next search would be planned anew,
    which takes PostgreSQL several times as long as the search itself.
    """

    def begin_with(self, settings: Mapping[str, str]) -> bool:
        """Begin a transaction with these settings in one exchange; whether it was begun by this.

        Where it was not, because one is under way or the connection is lost, nothing was changed.
        """
        with self.lock, suppress(psycopg.Error):  # the driver's own way tells what is wrong
            if self.pgconn.transaction_status != TransactionStatus.IDLE:
                return False
            literal = Escaping(self.pgconn).escape_literal
            local = [
                b"SET LOCAL %s = %s" % (name.encode(), literal(value.encode())) for name, value in settings.items()
            ]
            if self.pgconn.exec_(b"; ".join([b"BEGIN", *local])).status == ExecStatus.COMMAND_OK:
                return True
            self._plainly()
        return False

    def rollback(self) -> None:
        """Roll back. Raises ``psycopg.OperationalError`` when the connection is lost."""
        with self.lock:
            plain = self.pgconn.transaction_status in OPEN and self._plainly()
        if not plain:
            super().rollback()

    def _plainly(self) -> bool:
        return self.pgconn.exec_(b"ROLLBACK").status == ExecStatus.COMMAND_OK


def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> psycopg.Connection[Any]:
    """A connection of an engine, for SQLAlchemy's ``do_connect``."""
    return LastingConnection.connect(*arguments, **options)
