"""The driver's connection, but for one habit that costs more than anything else a request does."""

from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class LastingConnection(psycopg.Connection[Any]):
    """A connection that keeps its prepared statements when a transaction is rolled back.

    The driver forgets them then, for a rollback may take back that a table was made. The web process makes none,
    but rolls back after every read that leaves no trail and every refusal: the next search would be planned anew,
    which takes PostgreSQL several times as long as the search itself.
    """

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
