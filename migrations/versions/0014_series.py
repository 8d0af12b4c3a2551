"""Series of appointments.

The columns are added empty; their foreign key, check and index lock appointment against writes for as long as
one scan of it takes. The previous release does not know of them and runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard, guard_sight, same_organization

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ZONE_KNOWN = "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL"
DIARIES = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'admin', 'nurse', 'receptionist'))
    OR clinician_id = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'clinician'))
    OR created_by = (SELECT caller_id())
    OR patient_id IN (SELECT own_patients(caller_id()))
    OR NOT sensitive AND patient_id IN (SELECT proxied_patients(caller_id(), 'appointments'))
"""
"""Those of one's diary, of oneself and whom one acts for, as with appointments; and who made it sees it."""


def upgrade() -> None:
    """Make the table and the columns."""
    op.create_table(
        "appointment_series",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("clinician_id", sa.Uuid(), nullable=False, comment="with whom the last of them are"),
        sa.Column("appointment_type_id", sa.Uuid(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False, comment="by whose wall clock they recur"),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False, comment="wanted; those left out are counted"),
        sa.Column("sensitive", sa.Boolean(), nullable=False, server_default=sa.false(), comment="not for proxies"),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("frequency IN ('daily', 'weekly', 'monthly')", name=op.f("ck_appointment_series_frequency")),
        sa.CheckConstraint('"interval" BETWEEN 1 AND 52', name=op.f("ck_appointment_series_interval")),
        sa.CheckConstraint("occurrences BETWEEN 2 AND 104", name=op.f("ck_appointment_series_occurrences")),
        sa.CheckConstraint(ZONE_KNOWN, name=op.f("ck_appointment_series_time_zone")),
        *same_organization(
            "appointment_series",
            patient_id="patient",
            clinician_id="clinician",
            appointment_type_id="appointment_type",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_appointment_series_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_appointment_series"),
        sa.UniqueConstraint("organization_id", "id", name="uq_appointment_series_organization_id_id"),
    )
    op.create_index("ix_appointment_series_patient_id", "appointment_series", ["patient_id"])
    guard("appointment_series", "SELECT, INSERT, UPDATE (clinician_id, time_zone, version)")
    guard_sight("appointment_series", DIARIES)
    op.add_column("appointment", sa.Column("series_id", sa.Uuid()))
    op.add_column("appointment", sa.Column("occurrence", sa.Integer(), comment="its number in the series"))
    op.create_foreign_key(
        "fk_appointment_series_id_appointment_series",
        "appointment",
        "appointment_series",
        ["organization_id", "series_id"],
        ["organization_id", "id"],
    )
    op.create_check_constraint("series", "appointment", "(series_id IS NULL) = (occurrence IS NULL)")
    op.create_index(
        "uq_appointment_series_id_occurrence",
        "appointment",
        ["series_id", "occurrence"],
        unique=True,
        postgresql_where=sa.text("series_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove what came; the appointments stay."""
    op.drop_column("appointment", "occurrence")
    op.drop_column("appointment", "series_id")
    op.drop_table("appointment_series")
