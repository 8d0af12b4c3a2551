"""What the database role behind a URL may do: row-level security must bind the web process's."""

from dataclasses import dataclass

from medical.platform.db import APP_ROLE
from medical.platform.refusal import Refused
from medical.platform.waiting import connected

FACTS = """
    SELECT session_user, rolsuper, rolbypassrls,
           CASE WHEN to_regclass('alembic_version') IS NULL THEN has_schema_privilege('public', 'CREATE')
                ELSE (SELECT pg_has_role(session_user, relowner, 'USAGE')
                        FROM pg_class WHERE oid = to_regclass('alembic_version')) END
      FROM pg_roles WHERE rolname = session_user
"""


class UnrestrictedRole(Refused):
    """The role of the web process may go round row-level security."""


@dataclass(frozen=True, slots=True)
class Login:
    """A role that logs in: whether row-level security binds it, whether it may change the schema."""

    role: str
    restricted: bool
    may_migrate: bool


def login_of(url: str) -> Login:
    """The role behind ``url``. Raises ``psycopg.OperationalError`` when the server does not answer."""
    with connected(url) as connection:
        row = connection.execute(FACTS).fetchone()
    assert row is not None  # noqa: S101  # a session's own role is always there
    role, superuser, bypasses, owner = row
    return Login(role, restricted=not (superuser or bypasses), may_migrate=bool(superuser or owner))


def ensure_restricted(url: str) -> None:
    """Raise ``UnrestrictedRole`` when the role behind ``url`` may go round row-level security."""
    login = login_of(url)
    if not login.restricted:
        raise UnrestrictedRole(
            f"DATABASE_URL logs in as {login.role}, whom row-level security does not bind: run"
            f" `ALTER ROLE {APP_ROLE} LOGIN PASSWORD '…'` (or CREATE ROLE), put that role into DATABASE_URL"
            f", and keep {login.role} for MIGRATION_DATABASE_URL"
        )


def restricted_role_needed(url: str) -> bool:
    """Whether the web process must take on a lesser role after logging in at ``url``."""
    return not login_of(url).restricted
