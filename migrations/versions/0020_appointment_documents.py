"""What FHIR clients say of appointments beyond what the desk has.

A new table; nothing that is there is locked, and the previous release runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_sight, same_organization

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

WITH_ITS_APPOINTMENT = "EXISTS (SELECT FROM appointment a WHERE a.id = appointment_id)"


def upgrade() -> None:
    """Make the table; who sees an appointment sees what was said of it."""
    op.create_table(
        "appointment_document",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False, comment="elements without a column"),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization("appointment_document", appointment_id="appointment"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name="fk_appointment_document_organization_id"
        ),
        sa.PrimaryKeyConstraint("appointment_id", name="pk_appointment_document"),
    )
    guard("appointment_document", "SELECT, INSERT, UPDATE (document)")
    guard_sight("appointment_document", WITH_ITS_APPOINTMENT)


def downgrade() -> None:
    """Remove it."""
    op.drop_table("appointment_document")
