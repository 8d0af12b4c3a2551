"""The life of an appointment, holds, overbooking and limits of kinds of visits.

Columns are added with constant defaults; constraints of appointment and allocation are made anew, which
locks each for as long as one scan of it takes. The previous release runs on it while nobody holds a time.
Row-level security, grants and the function are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

NOTE_CARE = """
    CREATE OR REPLACE FUNCTION note_care() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            NEW.created_by := coalesce(NEW.created_by, caller_id());
            NEW.care_from := CASE WHEN caller_id() IS DISTINCT FROM NEW.clinician_id THEN NEW.created_at END;
        ELSIF NEW.clinician_id <> OLD.clinician_id THEN
            NEW.care_from := CASE WHEN caller_id() IS DISTINCT FROM NEW.clinician_id THEN now() END;
        ELSIF NEW.care_from IS NULL AND caller_id() IS DISTINCT FROM NEW.clinician_id
              AND (NEW.start_at <> OLD.start_at OR NEW.status IN ({hands}) AND OLD.status <> NEW.status) THEN
            NEW.care_from := now();
        END IF;
        NEW.released_at := CASE WHEN NEW.status IN ({released}) THEN coalesce(NEW.released_at, now()) END;
        RETURN NEW;
    END $$
"""
"""Booking somebody into one's own diary gives no sight of them until somebody else has a hand in it."""

NOTE_CARE_NOW = NOTE_CARE.format(
    hands="'arrived', 'checked_in', 'booked'", released="'cancelled', 'no_show', 'entered_in_error'"
)
NOTE_CARE_BEFORE = NOTE_CARE.format(hands="'checked_in'", released="'cancelled', 'no_show'").replace(
    "NEW.status IN ('checked_in') AND OLD.status <> NEW.status",
    "NEW.status = 'checked_in' AND OLD.status <> 'checked_in'",
)

STATUSES = "status IN ('booked', 'checked_in', 'in_progress', 'fulfilled', 'no_show', 'cancelled')"
MORE_STATUSES = (
    "status IN ('requested', 'booked', 'arrived', 'checked_in', 'in_progress', 'fulfilled', 'no_show',"
    " 'cancelled', 'entered_in_error')"
)
CHANGEABLE = "cancelled_late, queue_number, overbooked"


def upgrade() -> None:
    """Make the tables, the columns and the constraints."""
    _add_to_appointment_type()
    _add_to_appointment()
    op.create_table(
        "queue_day",
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("last_number >= 1", name=op.f("ck_queue_day_last_number")),
        *_same_organization("queue_day", location_id="location"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_queue_day_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_queue_day"),
        sa.UniqueConstraint(
            "organization_id",
            "location_id",
            "day",
            name="uq_queue_day_organization_id_location_id_day",
            postgresql_nulls_not_distinct=True,
        ),
    )
    guard("queue_day", "SELECT, INSERT, UPDATE (last_number)")
    op.create_table(
        "hold",
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Uuid(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_by", sa.Uuid(), nullable=True, comment="the user who may book it; null: an offer's"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_hold_times")),
        *_same_organization("hold", clinician_id="clinician", appointment_type_id="appointment_type"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_hold_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_hold"),
        sa.UniqueConstraint("organization_id", "id", name="uq_hold_organization_id_id"),
    )
    op.create_index("ix_hold_held_by", "hold", ["held_by"])
    op.create_index("ix_hold_expires_at", "hold", ["organization_id", "expires_at"])
    guard("hold", "SELECT, INSERT, DELETE")
    op.execute("GRANT UPDATE (expires_at) ON hold TO medical_app")  # lets it lock the rows that it deletes
    _add_to_allocation()
    op.execute(NOTE_CARE_NOW)


def downgrade() -> None:
    """Remove what came; times that are held are free, and appointments must have statuses of before."""
    op.execute(NOTE_CARE_BEFORE)
    op.execute("ALTER TABLE allocation NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM allocation WHERE appointment_id IS NULL OR kind = 'overbook'")
    op.execute("ALTER TABLE allocation FORCE ROW LEVEL SECURITY")
    for name in ("kind", "claimant", "expires_at"):
        op.drop_constraint(op.f(f"ck_allocation_{name}"), "allocation")
    op.create_check_constraint("kind", "allocation", "kind IN ('clinician', 'patient')")
    op.drop_column("allocation", "expires_at")
    op.drop_column("allocation", "hold_id")
    op.alter_column("allocation", "appointment_id", nullable=False)
    op.alter_column("allocation", "bookable_id", comment="whose time: a clinician's or a patient's id")
    op.drop_table("hold")
    op.drop_table("queue_day")
    for column in ("overbooked", "queue_number", "cancelled_late"):
        op.drop_column("appointment", column)
    op.alter_column("appointment", "status_reason", comment="why it was cancelled or moved")
    op.drop_constraint(op.f("ck_appointment_status"), "appointment")
    op.create_check_constraint("status", "appointment", STATUSES)
    for column in ("max_per_patient", "max_per_day", "needs_approval", "cancellation_cutoff_minutes"):
        op.drop_column("appointment_type", column)


def _add_to_appointment_type() -> None:
    op.add_column(
        "appointment_type",
        sa.Column(
            "cancellation_cutoff_minutes",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="nearer than this to the start, a cancellation is late",
        ),
    )
    op.add_column(
        "appointment_type", sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "appointment_type",
        sa.Column("max_per_day", sa.Integer(), comment="of one clinician on one local day; null: any number"),
    )
    op.add_column(
        "appointment_type",
        sa.Column("max_per_patient", sa.Integer(), comment="that one patient has ahead; null: any number"),
    )
    op.create_check_constraint("cancellation_cutoff_minutes", "appointment_type", "cancellation_cutoff_minutes >= 0")
    for column in ("max_per_day", "max_per_patient"):
        op.create_check_constraint(column, "appointment_type", f"{column} >= 1")


def _add_to_appointment() -> None:
    op.add_column(
        "appointment",
        sa.Column(
            "cancelled_late",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="after the cut-off of its type",
        ),
    )
    op.add_column(
        "appointment",
        sa.Column("queue_number", sa.Integer(), comment="drawn at check-in, for its place and local day"),
    )
    op.add_column(
        "appointment",
        sa.Column(
            "overbooked",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="beside another one of the clinician's, on purpose",
        ),
    )
    op.alter_column("appointment", "status_reason", comment="why it was cancelled, moved or overbooked")
    op.drop_constraint(op.f("ck_appointment_status"), "appointment")
    op.create_check_constraint("status", "appointment", MORE_STATUSES)
    op.execute(f"GRANT UPDATE ({CHANGEABLE}) ON appointment TO medical_app")


def _add_to_allocation() -> None:
    op.add_column("allocation", sa.Column("hold_id", sa.Uuid()))
    op.add_column("allocation", sa.Column("expires_at", sa.DateTime(timezone=True), comment="of a hold"))
    op.alter_column("allocation", "appointment_id", nullable=True)
    op.alter_column("allocation", "bookable_id", comment="whose time: a clinician's, a patient's or a lane's id")
    op.create_foreign_key(
        "fk_allocation_hold_id_hold",
        "allocation",
        "hold",
        ["organization_id", "hold_id"],
        ["organization_id", "id"],
        ondelete="CASCADE",
    )
    op.create_index("ix_allocation_hold_id", "allocation", ["hold_id"])
    op.drop_constraint(op.f("ck_allocation_kind"), "allocation")
    op.create_check_constraint("kind", "allocation", "kind IN ('clinician', 'patient', 'overbook')")
    op.create_check_constraint("claimant", "allocation", "num_nonnulls(appointment_id, hold_id) = 1")
    op.create_check_constraint("expires_at", "allocation", "(hold_id IS NULL) = (expires_at IS NULL)")


def _same_organization(table: str, **columns: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(
            ["organization_id", column],
            [f"{target}.organization_id", f"{target}.id"],
            name=f"fk_{table}_{column}_{target}",
        )
        for column, target in columns.items()
    ]
