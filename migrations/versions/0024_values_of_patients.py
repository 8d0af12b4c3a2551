"""Values by which records are found say whose they are, so that one patient's are found without those of others.

A column of `resource_value`, filled in where there are rows; its index over codes is made anew. A foreign key goes
that says what the one to the resource says already, and is looked at for each value. Takes a lock on the table while
it does: some minutes where there are millions of values. The previous release runs on it: values that it writes say
nothing of patients, and are found as before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

OWN = "fk_resource_value_organization_id"
FILL = """
    UPDATE resource_value v SET subject_id = s.id
    FROM (
        SELECT resource_id, min(target_id)::uuid AS id FROM resource_value WHERE parameter = 'patient'
        GROUP BY resource_id
        HAVING count(DISTINCT target_id) = 1 AND bool_and(target_type IS NOT DISTINCT FROM 'Patient')
           AND min(target_id) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    ) AS s
    WHERE v.resource_id = s.resource_id
"""


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "resource_value",
        sa.Column("subject_id", sa.Uuid(), comment="the one patient of its resource; null: none, several or unknown"),
    )
    op.execute("ALTER TABLE resource_value NO FORCE ROW LEVEL SECURITY")  # else its owner would see none to fill in
    op.execute(FILL)
    op.execute("ALTER TABLE resource_value FORCE ROW LEVEL SECURITY")
    _index_codes("code", "subject_id")
    op.drop_constraint(OWN, "resource_value")


def _index_codes(*columns: str) -> None:
    op.drop_index("ix_resource_value_code", "resource_value")
    op.create_index(
        "ix_resource_value_code",
        "resource_value",
        ["organization_id", "type", "parameter", *columns],
        postgresql_where=sa.text("code IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove it."""
    op.create_foreign_key(OWN, "resource_value", "organization", ["organization_id"], ["id"])
    _index_codes("code")
    op.drop_column("resource_value", "subject_id")
