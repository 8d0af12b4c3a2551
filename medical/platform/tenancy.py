"""Row-level security of a tenant's table, as migrations set it up."""

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
