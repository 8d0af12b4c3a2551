"""The database a command works on: the one that is configured, or the embedded server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from medical.config import ConfigurationError, Settings
from medical.platform.postgres import EmbeddedPostgres


@contextmanager
def provided(settings: Settings) -> Iterator[EmbeddedPostgres | None]:
    """Inside the block ``DATABASE_URL`` leads to a running server; yields the embedded one if that is used.

    Raises ``ConfigurationError`` or ``PostgresError``. The environment carries the addresses, because worker
    processes read it too.
    """
    if settings.database_url:
        yield None
        return
    if settings.migration_database_url:
        raise ConfigurationError(["MIGRATION_DATABASE_URL is set without DATABASE_URL: set both, or neither"])
    with EmbeddedPostgres(settings.data) as server:
        os.environ["DATABASE_URL"] = server.app_url
        os.environ["MIGRATION_DATABASE_URL"] = server.owner_url
        try:
            yield server
        finally:
            del os.environ["DATABASE_URL"], os.environ["MIGRATION_DATABASE_URL"]
