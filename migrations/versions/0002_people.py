"""Locations, clinicians and patients.

On a new database it locks nothing that anybody uses. Row-level security,
grants and functions are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and their guards."""
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    op.execute(
        """
        CREATE FUNCTION search_key(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $$ SELECT lower(public.unaccent('public.unaccent'::regdictionary, value)) $$
        """
    )
    op.execute("CREATE SEQUENCE patient_mrn_seq")
    op.execute("GRANT USAGE ON SEQUENCE patient_mrn_seq TO medical_app")
    op.create_table(
        "location",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL", name=op.f("ck_location_time_zone")
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_location_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_location"),
        sa.UniqueConstraint("organization_id", "id", name="uq_location_organization_id_id"),
        sa.UniqueConstraint("organization_id", "name", name="uq_location_organization_id_name"),
    )
    op.create_table(
        "clinician",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("specialty", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL", name=op.f("ck_clinician_time_zone")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "id"], ["users.organization_id", "users.id"], name="fk_clinician_id_users"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "location_id"],
            ["location.organization_id", "location.id"],
            name="fk_clinician_location_id_location",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_clinician_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_clinician"),
        sa.UniqueConstraint("organization_id", "id", name="uq_clinician_organization_id_id"),
    )
    op.create_index(
        "ix_clinician_organization_id_specialty", "clinician", ["organization_id", "specialty"], unique=False
    )
    op.create_table(
        "patient",
        sa.Column(
            "mrn",
            sa.Text(),
            nullable=False,
            comment="medical record number, the label people use; never a permission",
        ),
        sa.Column("given_name", sa.Text(), nullable=False),
        sa.Column("family_name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.Date(), nullable=False),
        sa.Column("sex", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("address", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True, comment="the patient's own account"),
        sa.Column(
            "search_name",
            sa.Text(),
            sa.Computed("search_key(given_name || ' ' || family_name)", persisted=True),
            nullable=False,
            comment="name without case and accents",
        ),
        sa.Column(
            "phone_digits",
            sa.Text(),
            sa.Computed("regexp_replace(phone, '\\D', '', 'g')", persisted=True),
            nullable=True,
        ),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("sex IN ('male', 'female', 'other', 'unknown')", name=op.f("ck_patient_sex")),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_patient_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_patient_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
        sa.UniqueConstraint("organization_id", "id", name="uq_patient_organization_id_id"),
        sa.UniqueConstraint("organization_id", "mrn", name="uq_patient_organization_id_mrn"),
        sa.UniqueConstraint("user_id", name="uq_patient_user_id"),
    )
    op.create_index("ix_patient_organization_id_birth_date", "patient", ["organization_id", "birth_date"], unique=False)
    op.create_index(
        "ix_patient_organization_id_name",
        "patient",
        ["organization_id", "family_name", "given_name", "id"],
        unique=False,
    )
    op.create_table(
        "patient_identifier",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "patient_id"],
            ["patient.organization_id", "patient.id"],
            name="fk_patient_identifier_patient_id_patient",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_patient_identifier_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_patient_identifier"),
        sa.UniqueConstraint(
            "organization_id", "system", "value", name="uq_patient_identifier_organization_id_system_value"
        ),
    )
    op.create_index("ix_patient_identifier_patient_id", "patient_identifier", ["patient_id"], unique=False)
    guard("location", "SELECT, INSERT, UPDATE")
    guard("clinician", "SELECT, INSERT, UPDATE")
    guard("patient", "SELECT, INSERT, UPDATE")
    guard("patient_identifier", "SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    """Remove the tables and what came with them."""
    op.drop_table("patient_identifier")
    op.drop_table("patient")
    op.drop_table("clinician")
    op.drop_table("location")
    op.execute("DROP SEQUENCE patient_mrn_seq")
    op.execute("DROP FUNCTION search_key(text)")
    op.execute("DROP EXTENSION unaccent")
    op.execute("DROP EXTENSION pg_trgm")
