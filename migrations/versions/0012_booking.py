"""The life of an appointment, holds, overbooking, limits of kinds of visits, and the waitlist.

Columns are added with constant defaults; constraints of appointment and allocation are made anew, which
locks each for as long as one scan of it takes. The previous release runs on it while nobody holds a time.
Row-level security, grants and the function are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_sight, same_organization

revision = "0012"
down_revision = "0011"
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
WAITS = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'admin', 'nurse', 'receptionist'))
    OR created_by = (SELECT caller_id()) OR patient_id IN (SELECT own_patients(caller_id()))
    OR patient_id IN (SELECT proxied_patients(caller_id(), 'appointments'))
"""
"""Entries of the waitlist: the desk's, of who made them, of the patient and who acts for them."""

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
        *same_organization("queue_day", location_id="location"),
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
        *same_organization("hold", clinician_id="clinician", appointment_type_id="appointment_type"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_hold_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_hold"),
        sa.UniqueConstraint("organization_id", "id", name="uq_hold_organization_id_id"),
    )
    op.create_index("ix_hold_held_by", "hold", ["held_by"])
    op.create_index("ix_hold_expires_at", "hold", ["organization_id", "expires_at"])
    guard("hold", "SELECT, INSERT, DELETE")
    op.execute("GRANT UPDATE (expires_at) ON hold TO medical_app")  # lets it lock the rows that it deletes
    _add_to_allocation()
    _make_waitlist()
    op.execute(NOTE_CARE_NOW)


def downgrade() -> None:
    """Remove what came; times that are held are free, and appointments must have statuses of before."""
    op.execute(NOTE_CARE_BEFORE)
    op.drop_table("waitlist_offer")
    op.drop_table("waitlist_entry")
    op.execute("ALTER TABLE allocation NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM allocation WHERE appointment_id IS NULL OR kind = 'overbook'")
    op.execute("ALTER TABLE allocation FORCE ROW LEVEL SECURITY")
    for name in ("kind", "claimant", "expires_at"):
        op.drop_constraint(op.f(f"ck_allocation_{name}"), "allocation")
    op.create_check_constraint("kind", "allocation", "kind IN ('clinician', 'patient', 'room', 'device')")
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
    op.create_check_constraint("kind", "allocation", "kind IN ('clinician', 'patient', 'room', 'device', 'overbook')")
    op.create_check_constraint("claimant", "allocation", "num_nonnulls(appointment_id, hold_id) = 1")
    op.create_check_constraint("expires_at", "allocation", "(hold_id IS NULL) = (expires_at IS NULL)")


def _make_waitlist() -> None:
    op.create_table(
        "waitlist_entry",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Uuid(), nullable=False),
        sa.Column("clinician_ids", postgresql.ARRAY(sa.Uuid()), nullable=True, comment="null: any"),
        sa.Column("starts_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("starts_before > starts_from", name=op.f("ck_waitlist_entry_times")),
        sa.CheckConstraint("status IN ('waiting', 'booked', 'withdrawn')", name=op.f("ck_waitlist_entry_status")),
        *same_organization("waitlist_entry", patient_id="patient", appointment_type_id="appointment_type"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_waitlist_entry_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_waitlist_entry"),
        sa.UniqueConstraint("organization_id", "id", name="uq_waitlist_entry_organization_id_id"),
    )
    op.create_index(
        "uq_waitlist_entry_patient_id_appointment_type_id",
        "waitlist_entry",
        ["patient_id", "appointment_type_id"],
        unique=True,
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "ix_waitlist_entry_organization_id_created_at", "waitlist_entry", ["organization_id", "created_at", "id"]
    )
    guard("waitlist_entry", "SELECT, INSERT, UPDATE (status, version)")
    guard_sight("waitlist_entry", WAITS)
    op.create_table(
        "waitlist_offer",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("hold_id", sa.Uuid(), nullable=False, comment="keeps the time until the deadline"),
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_waitlist_offer_times")),
        sa.CheckConstraint(
            "reply IN ('open', 'accepted', 'declined', 'expired')", name=op.f("ck_waitlist_offer_reply")
        ),
        *same_organization("waitlist_offer", entry_id="waitlist_entry", clinician_id="clinician"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_waitlist_offer_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_waitlist_offer"),
    )
    open_only = {"postgresql_where": sa.text("reply = 'open'")}
    op.create_index("uq_waitlist_offer_entry_id", "waitlist_offer", ["entry_id"], unique=True, **open_only)
    op.create_index("ix_waitlist_offer_entry_id_start_at", "waitlist_offer", ["entry_id", "start_at"])
    op.create_index("ix_waitlist_offer_expires_at", "waitlist_offer", ["organization_id", "expires_at"], **open_only)
    guard("waitlist_offer", "SELECT, INSERT, UPDATE (reply)")
    guard_sight("waitlist_offer", "EXISTS (SELECT FROM waitlist_entry e WHERE e.id = entry_id)")
