"""Patients who are one: who was merged into whom, and what was moved by that.

A new table; a column of `patient`, null in the rows there are. Takes a lock on `patient` for a moment. The previous
release runs on it: it shows patients who were merged like others. The program's role may not give what is of one
patient to another, but by the function that says what it moved. Row-level security and grants are written by hand.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_function, guard_sight, same_organization

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MOVE = """
    CREATE FUNCTION move_patient_rows(source_id uuid, target_id uuid, only_these jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
    DECLARE
        moved jsonb := '{}';
        name text;
        ids uuid[];
    BEGIN
        UPDATE allocation c SET bookable_id = target_id FROM appointment a
        WHERE c.organization_id = current_organization() AND c.bookable_id = source_id AND c.kind = 'patient'
          AND a.id = c.appointment_id
          AND (only_these IS NULL OR only_these->'appointment' ? a.id::text);
        FOREACH name IN ARRAY ARRAY['appointment', 'appointment_series', 'waitlist_entry'] LOOP
            EXECUTE format(
                'WITH m AS (UPDATE %1$I t SET patient_id = $2, version = version + 1'
                ' WHERE organization_id = current_organization() AND patient_id = $1'
                ' AND ($3 IS NULL OR $3->%1$L ? id::text) %2$s RETURNING id)'
                ' SELECT coalesce(array_agg(id), ''{}'') FROM m',
                name,
                CASE WHEN name = 'waitlist_entry' THEN
                    'AND NOT EXISTS (SELECT FROM waitlist_entry o WHERE o.patient_id = $2'
                    ' AND o.appointment_type_id = t.appointment_type_id'
                    ' AND o.status = ''waiting'' AND t.status = ''waiting'')'
                ELSE '' END
            ) INTO ids USING source_id, target_id, only_these;
            moved := moved || jsonb_build_object(name, to_jsonb(ids));
        END LOOP;
        FOREACH name IN ARRAY ARRAY['care_relationship', 'patient_identifier'] LOOP
            EXECUTE format(
                'WITH m AS (UPDATE %1$I SET patient_id = $2'
                ' WHERE organization_id = current_organization() AND patient_id = $1'
                ' AND ($3 IS NULL OR $3->%1$L ? id::text) RETURNING id)'
                ' SELECT coalesce(array_agg(id), ''{}'') FROM m',
                name
            ) INTO ids USING source_id, target_id, only_these;
            moved := moved || jsonb_build_object(name, to_jsonb(ids));
        END LOOP;
        RETURN moved;
    END $$
"""
"""What is of one patient, or ``only_these`` of it, becomes another's; the ids of what was moved, by table.

Overlapping visits of both end in the constraint that forbids double bookings. Who waits for the same twice, goes on
waiting as both.
"""

OURS, OURS_NOT_MERGED = (
    "p.organization_id = current_organization()\n",
    "p.organization_id = current_organization() AND p.merged_into IS NULL\n",
)
"""In `search_patient_cards`: whom it finds."""
MERGED_INTO = """
    CREATE FUNCTION merged_into(wanted uuid) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$ BEGIN
        RETURN (SELECT p.merged_into FROM patient p
                WHERE p.organization_id = current_organization() AND p.id = wanted);
    END $$
"""


def upgrade() -> None:
    """Make the table, the column and the functions."""
    op.add_column("patient", sa.Column("merged_into", sa.Uuid(), comment="whom the patient turned out to be"))
    op.create_foreign_key(
        "fk_patient_merged_into_patient",
        "patient",
        "patient",
        ["organization_id", "merged_into"],
        ["organization_id", "id"],
    )
    op.create_check_constraint(op.f("ck_patient_merged_into"), "patient", "merged_into <> id")
    op.create_table(
        "patient_merge",
        sa.Column("source_patient_id", sa.Uuid(), nullable=False, comment="who turned out to be somebody else"),
        sa.Column("target_patient_id", sa.Uuid(), nullable=False, comment="who they are"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("moved", postgresql.JSONB(), nullable=False, comment="ids of what was moved, by what it is"),
        sa.Column("merged_by", sa.Uuid(), nullable=False),
        sa.Column("merged_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone_by", sa.Uuid(), nullable=True),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization(
            "patient_merge",
            source_patient_id="patient",
            target_patient_id="patient",
            merged_by="users",
            undone_by="users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_patient_merge_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_patient_merge"),
    )
    op.create_index("ix_patient_merge_target_patient_id", "patient_merge", ["target_patient_id"])
    op.create_index("ix_patient_merge_source_patient_id", "patient_merge", ["source_patient_id"])
    guard("patient_merge", "SELECT, INSERT, UPDATE (undone_by, undone_at)")
    guard_sight("patient_merge", "EXISTS (SELECT FROM patient p WHERE p.id = target_patient_id)")
    op.execute(MOVE)
    op.execute(MERGED_INTO)
    _replace(OURS, OURS_NOT_MERGED)
    guard_function("move_patient_rows(uuid, uuid, jsonb)")
    guard_function("merged_into(uuid)")


def downgrade() -> None:
    """Remove them: patients who were merged are patients like others again, without what was moved."""
    _replace(OURS_NOT_MERGED, OURS)
    op.execute("DROP FUNCTION merged_into(uuid)")
    op.execute("DROP FUNCTION move_patient_rows(uuid, uuid, jsonb)")
    op.drop_table("patient_merge")
    op.drop_constraint(op.f("ck_patient_merged_into"), "patient", type_="check")
    op.drop_constraint("fk_patient_merged_into_patient", "patient", type_="foreignkey")
    op.drop_column("patient", "merged_into")


def _replace(part: str, by: str) -> None:
    """Make `search_patient_cards` again with another part."""
    query = sa.text("SELECT pg_get_functiondef(CAST('search_patient_cards' AS regproc))")
    definition = op.get_bind().scalar(query) or ""
    op.get_bind().exec_driver_sql(definition.replace(part, by).replace("%", "%%"))
