"""Row-level security of a tenant's table, as migrations set it up."""

import sqlalchemy as sa
from alembic import op

from medical.platform.db import APP_ROLE


def guard(table: str, privileges: str) -> None:
    """Let the application's role do ``privileges`` on ``table``, and only on rows of its organisation.

    Forced, so that it holds for the table's owner too. The sub-select is evaluated once a
    statement, not once a row.
    """
    op.execute(f"GRANT {privileges} ON {table} TO {APP_ROLE}")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY organization ON {table} USING (organization_id = (SELECT current_organization()))")


def same_organization(table: str, **columns: str) -> list[sa.ForeignKeyConstraint]:
    """Foreign keys of a new table by column, which cannot point at another organisation's rows."""
    return [
        sa.ForeignKeyConstraint(
            ["organization_id", column],
            [f"{target}.organization_id", f"{target}.id"],
            name=f"fk_{table}_{column}_{target}",
        )
        for column, target in columns.items()
    ]


def guard_sight(table: str, condition: str) -> None:
    """Beside the organisation's policy: which of its rows a caller may see and change; all it may add."""
    op.execute(f"CREATE POLICY sight ON {table} AS RESTRICTIVE USING ({condition}) WITH CHECK (true)")


def guard_function(signature: str) -> None:
    """Let the application's role call a function, and nobody else who does not own it."""
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {APP_ROLE}")


def guard_columns(table: str, columns: str) -> None:
    """Let the application's role update only ``columns`` of a table."""
    op.execute(f"REVOKE UPDATE ON {table} FROM {APP_ROLE}")
    op.execute(f"GRANT UPDATE ({columns}) ON {table} TO {APP_ROLE}")
