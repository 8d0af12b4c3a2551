"""How far files of records have been taken in.

A new table; nothing that is there is locked, and the previous release runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard, guard_sight

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; only the program itself reads and writes it."""
    op.create_table(
        "record_import",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the file"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False, comment="so many of its entries"),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_record_import_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_record_import"),
        sa.UniqueConstraint("organization_id", "digest", name="uq_record_import_organization_id_digest"),
    )
    guard("record_import", "SELECT, INSERT, UPDATE (done, kept, refused, finished_at)")
    guard_sight("record_import", "(SELECT unbound())")


def downgrade() -> None:
    """Remove it."""
    op.drop_table("record_import")
