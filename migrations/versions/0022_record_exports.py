"""Exports of many records, and the files that they are written to.

New tables; nothing that is there is locked, and the previous release runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_sight, same_organization

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

WORDS = postgresql.ARRAY(sa.Text())
OWN = "created_by = (SELECT caller_id())"


def upgrade() -> None:
    """Make the tables; who asked for an export sees it, and its files."""
    op.create_table(
        "record_export",
        sa.Column("request", sa.Text(), nullable=False, comment="the URL by which it was asked for"),
        sa.Column("types", WORDS, nullable=False, comment="of resources, in the order of the files"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True, comment="only what was written from then on"),
        sa.Column("of_patients", sa.Boolean(), nullable=False, comment="only what is in the record of a patient"),
        sa.Column("group_id", sa.Text(), nullable=True, comment="only of the patients in this Group"),
        sa.Column("scopes", WORDS, nullable=True, comment="of SMART, which narrow it; null: all that the client may"),
        sa.Column("created_by", sa.Uuid(), nullable=False, comment="the service client that asked for it"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reached", sa.Integer(), nullable=False, comment="which of the types is being written"),
        sa.Column("after", sa.Uuid(), nullable=True, comment="the last resource of it that was written"),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True, comment="why it was given up"),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization("record_export", created_by="users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_record_export_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_record_export"),
        sa.UniqueConstraint("organization_id", "id", name="uq_record_export_organization_id_id"),
    )
    op.create_table(
        "record_export_file",
        sa.Column("export_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False, comment="resources in it"),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="NDJSON"),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "export_id"],
            ["record_export.organization_id", "record_export.id"],
            name="fk_record_export_file_export_id_record_export",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_record_export_file_organization_id"),
        sa.PrimaryKeyConstraint("export_id", "number", name="pk_record_export_file"),
    )
    guard("record_export", "SELECT, INSERT, UPDATE (reached, after, completed_at, failure), DELETE")
    guard_sight("record_export", f"{OWN} OR (SELECT unbound())")
    guard("record_export_file", "SELECT, INSERT, DELETE")
    guard_sight("record_export_file", "EXISTS (SELECT FROM record_export e WHERE e.id = export_id)")


def downgrade() -> None:
    """Remove them, and every file that was not fetched yet."""
    op.drop_table("record_export_file")
    op.drop_table("record_export")
