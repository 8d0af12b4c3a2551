"""Records: resources of FHIR R4, their former versions, and what search finds them by.

New tables; nothing that is there is locked, and the previous release runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_function, guard_sight, same_organization

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SEEN = """
    (SELECT unbound()) OR open OR (SELECT has_role(caller_id(), 'service'))
    OR patient_id IN (SELECT cared_patients(caller_id()))
    OR patient_id IN (SELECT own_patients(caller_id()))
    OR NOT sensitive AND patient_id IN (SELECT proxied_patients(caller_id(), 'record'))
    OR patient_id IS NULL AND created_by = (SELECT caller_id())
"""
"""Of patients one cares for, of oneself and those one acts for, and of nobody; of who is not known, what one wrote."""

WITH_ITS_RESOURCE = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'service'))
    OR EXISTS (SELECT FROM resource r WHERE r.id = resource_id)
"""

TAKEN = """
    CREATE FUNCTION resource_id_taken(wanted_type text, wanted_id text) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
      BEGIN
        RETURN EXISTS (
            SELECT FROM resource r
            WHERE r.organization_id = current_organization() AND r.type = wanted_type AND r.fhir_id = wanted_id);
      END
    $$
"""
"""Whether there is such a resource in the organisation, whether or not the caller may see it."""


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "resource",
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("fhir_id", sa.Text(), nullable=False, comment="the id that FHIR clients see"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("patient_id", sa.Uuid(), comment="in whose record it is"),
        sa.Column(
            "open", sa.Boolean(), nullable=False, comment="of no patient at all: everybody who reads records may see it"
        ),
        sa.Column("sensitive", sa.Boolean(), nullable=False, comment="by its security labels: not for proxies"),
        sa.Column("created_by", sa.Uuid(), comment="who sees it where its patient is not known here"),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("document", postgresql.JSONB(), comment="decimals as they were written; none once deleted"),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization("resource", patient_id="patient"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_resource_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_resource"),
        sa.UniqueConstraint("organization_id", "id", name="uq_resource_organization_id_id"),
        sa.UniqueConstraint("organization_id", "type", "fhir_id", name="uq_resource_organization_id_type_fhir_id"),
    )
    op.create_index(
        "ix_resource_organization_id_type_updated_at", "resource", ["organization_id", "type", "updated_at", "id"]
    )
    op.create_index("ix_resource_patient_id_type", "resource", ["patient_id", "type"])
    op.create_table(
        "resource_version",
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("document", postgresql.JSONB()),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization("resource_version", resource_id="resource"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_resource_version_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_resource_version"),
        sa.UniqueConstraint("resource_id", "version", name="uq_resource_version_resource_id_version"),
    )
    make_values()
    guard("resource", "SELECT, INSERT, UPDATE (version, updated_at, patient_id, open, sensitive, deleted, document)")
    guard("resource_version", "SELECT, INSERT")
    guard("resource_value", "SELECT, INSERT, DELETE")
    guard_sight("resource", SEEN)
    guard_sight("resource_version", WITH_ITS_RESOURCE)
    guard_sight("resource_value", WITH_ITS_RESOURCE)
    op.execute(TAKEN)
    guard_function("resource_id_taken(text, text)")


def make_values() -> None:
    """One table for the values of all parameters: which columns a row uses depends on the parameter's kind."""
    op.create_table(
        "resource_value",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("parameter", sa.Text(), nullable=False),
        sa.Column("system", sa.Text()),
        sa.Column("code", sa.Text()),
        sa.Column("text", sa.Text()),
        sa.Column("low", sa.Numeric()),
        sa.Column("high", sa.Numeric()),
        sa.Column("since", sa.DateTime(timezone=True)),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("target_type", sa.Text()),
        sa.Column("target_id", sa.Text()),
        sa.ForeignKeyConstraint(
            ["organization_id", "resource_id"],
            ["resource.organization_id", "resource.id"],
            name="fk_resource_value_resource_id_resource",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_resource_value_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_resource_value"),
    )
    op.create_index("ix_resource_value_resource_id_parameter", "resource_value", ["resource_id", "parameter"])
    for name, columns, there in (
        ("code", ["code"], "code IS NOT NULL"),
        ("text", ["text"], "text IS NOT NULL"),
        ("since", ["since", "until"], "since IS NOT NULL OR until IS NOT NULL"),
        ("low", ["low", "high"], "low IS NOT NULL OR high IS NOT NULL"),
    ):
        op.create_index(
            f"ix_resource_value_{name}",
            "resource_value",
            ["organization_id", "type", "parameter", *columns],
            postgresql_where=sa.text(there),
            postgresql_ops={"text": "text_pattern_ops"},
        )
    op.create_index(
        "ix_resource_value_target",
        "resource_value",
        ["organization_id", "target_type", "target_id", "type", "parameter"],
        postgresql_where=sa.text("target_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Remove them, with every record that was kept."""
    op.execute("DROP FUNCTION resource_id_taken(text, text)")
    for table in ("resource_value", "resource_version", "resource"):
        op.drop_table(table)
