"""Appointment types, availabilities, appointments and the claims on time.

On a new database it locks nothing that anybody uses. The exclusion constraint, row-level security,
grants and functions are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PLAIN = "(local AT TIME ZONE zone)"
BEFORE = f"({PLAIN} AT TIME ZONE 'UTC' - interval '3 hours')"
EARLIER = f"((local - ({BEFORE} AT TIME ZONE 'UTC' AT TIME ZONE zone - {BEFORE})) AT TIME ZONE 'UTC')"
LOCAL_TO_INSTANT = f"""
    CREATE FUNCTION local_to_instant(local timestamp, zone text) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE
            WHEN {EARLIER} < {PLAIN} AND {EARLIER} AT TIME ZONE zone = local THEN {EARLIER}
            ELSE {PLAIN}
        END
    $$
"""
"""A wall-clock time as an instant: the first of a repeated hour, a skipped time moved forward (RFC 5545 3.3.5).

PostgreSQL alone takes the second of a repeated hour. The offset in force three hours earlier gives
the first one, if that reads as the same wall-clock time. `medical.platform.zones` is its twin. One
expression, neither strict nor with a FROM, so that PostgreSQL inlines it: a search calls it for each
clinician and day, and a call costs three times as much.
"""

RECORD_EVENT = """
    CREATE FUNCTION record_appointment_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO appointment_event (appointment_id, version, organization_id, status, clinician_id,
                                       start_at, end_at, reason, actor_id, request_id, occurred_at)
        VALUES (NEW.id, NEW.version, NEW.organization_id, NEW.status, NEW.clinician_id,
                NEW.start_at, NEW.end_at, NEW.status_reason,
                nullif(current_setting('app.user_id', true), '')::uuid,
                nullif(current_setting('app.request_id', true), ''), clock_timestamp());
        RETURN NULL;
    END $$
"""
"""Every version of an appointment leaves an event, whoever writes it."""


def upgrade() -> None:
    """Make the tables and their guards."""
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    op.execute(LOCAL_TO_INSTANT)
    op.create_table(
        "appointment_type",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("duration_minutes", sa.Integer(), nullable=False),
        sa.Column(
            "grid_minutes",
            sa.Integer(),
            nullable=False,
            comment="starts lie this far apart from the start of each opening",
        ),
        sa.Column("min_notice_minutes", sa.Integer(), nullable=False),
        sa.Column("horizon_days", sa.Integer(), nullable=False, comment="counted in the clinician's zone"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("duration_minutes BETWEEN 1 AND 1440", name=op.f("ck_appointment_type_duration_minutes")),
        sa.CheckConstraint("grid_minutes BETWEEN 1 AND 1440", name=op.f("ck_appointment_type_grid_minutes")),
        sa.CheckConstraint("horizon_days BETWEEN 1 AND 550", name=op.f("ck_appointment_type_horizon_days")),
        sa.CheckConstraint("min_notice_minutes >= 0", name=op.f("ck_appointment_type_min_notice_minutes")),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_appointment_type_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_appointment_type"),
        sa.UniqueConstraint("organization_id", "id", name="uq_appointment_type_organization_id_id"),
        sa.UniqueConstraint("organization_id", "name", name="uq_appointment_type_organization_id_name"),
    )
    op.create_table(
        "availability",
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("weekdays", postgresql.ARRAY(sa.SmallInteger()), nullable=False, comment="ISO, Monday is 1"),
        sa.Column("start_time", sa.Time(), nullable=False),
        sa.Column("end_time", sa.Time(), nullable=False, comment="at or before start_time: of the next day"),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.Column("every_weeks", sa.SmallInteger(), nullable=False),
        sa.Column(
            "first_week_on",
            sa.Date(),
            nullable=False,
            comment="Monday of a week in which it holds, for every_weeks",
        ),
        sa.Column("appointment_type_ids", postgresql.ARRAY(sa.Uuid()), nullable=True, comment="null: every type"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL", name=op.f("ck_availability_time_zone")
        ),
        sa.CheckConstraint(
            "cardinality(weekdays) > 0 AND weekdays <@ '{1,2,3,4,5,6,7}'::smallint[]",
            name=op.f("ck_availability_weekdays"),
        ),
        sa.CheckConstraint("every_weeks BETWEEN 1 AND 52", name=op.f("ck_availability_every_weeks")),
        sa.CheckConstraint("valid_until >= valid_from", name=op.f("ck_availability_valid")),
        sa.ForeignKeyConstraint(
            ["organization_id", "clinician_id"],
            ["clinician.organization_id", "clinician.id"],
            name="fk_availability_clinician_id_clinician",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "location_id"],
            ["location.organization_id", "location.id"],
            name="fk_availability_location_id_location",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_availability_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_availability"),
        sa.UniqueConstraint("organization_id", "id", name="uq_availability_organization_id_id"),
    )
    op.create_index("ix_availability_clinician_id", "availability", ["clinician_id"], unique=False)
    op.create_table(
        "appointment",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False, comment="zone of the opening it was booked in"),
        sa.Column(
            "local_start",
            sa.DateTime(),
            nullable=False,
            comment="wall-clock time meant at booking, so that a later change of the zone's rules shows",
        ),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True, comment="why it was cancelled or moved"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "status IN ('booked', 'checked_in', 'in_progress', 'fulfilled', 'no_show', 'cancelled')",
            name=op.f("ck_appointment_status"),
        ),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_appointment_times")),
        sa.ForeignKeyConstraint(
            ["organization_id", "appointment_type_id"],
            ["appointment_type.organization_id", "appointment_type.id"],
            name="fk_appointment_appointment_type_id_appointment_type",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "clinician_id"],
            ["clinician.organization_id", "clinician.id"],
            name="fk_appointment_clinician_id_clinician",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "location_id"],
            ["location.organization_id", "location.id"],
            name="fk_appointment_location_id_location",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "patient_id"],
            ["patient.organization_id", "patient.id"],
            name="fk_appointment_patient_id_patient",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_appointment_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_appointment"),
        sa.UniqueConstraint("organization_id", "id", name="uq_appointment_organization_id_id"),
    )
    op.create_index("ix_appointment_clinician_id_start_at", "appointment", ["clinician_id", "start_at"], unique=False)
    op.create_index(
        "ix_appointment_organization_id_start_at",
        "appointment",
        ["organization_id", "start_at", "id"],
        unique=False,
    )
    op.create_index("ix_appointment_patient_id_start_at", "appointment", ["patient_id", "start_at"], unique=False)
    op.create_table(
        "appointment_event",
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "appointment_id"],
            ["appointment.organization_id", "appointment.id"],
            name="fk_appointment_event_appointment_id_appointment",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_appointment_event_organization_id"),
        sa.PrimaryKeyConstraint("appointment_id", "version", name="pk_appointment_event"),
    )
    op.create_table(
        "allocation",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("bookable_id", sa.Uuid(), nullable=False, comment="whose time: a clinician's or a patient's id"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "start_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="beside the range: range operators, not leakproof, use no index under row-level security",
        ),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "during",
            postgresql.TSTZRANGE(),
            sa.Computed("tstzrange(start_at, end_at)", persisted=True),
            nullable=False,
        ),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        postgresql.ExcludeConstraint(
            (sa.column("bookable_id"), "="),
            (sa.column("during"), "&&"),
            using="gist",
            name="ex_allocation_bookable_id_during",
        ),
        sa.CheckConstraint("kind IN ('clinician', 'patient')", name=op.f("ck_allocation_kind")),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_allocation_times")),
        sa.ForeignKeyConstraint(
            ["organization_id", "appointment_id"],
            ["appointment.organization_id", "appointment.id"],
            name="fk_allocation_appointment_id_appointment",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_allocation_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_allocation"),
    )
    op.create_index("ix_allocation_appointment_id", "allocation", ["appointment_id"], unique=False)
    op.create_index("ix_allocation_bookable_id_start_at", "allocation", ["bookable_id", "start_at"], unique=False)
    guard("appointment_type", "SELECT, INSERT, UPDATE")
    guard("availability", "SELECT, INSERT, UPDATE, DELETE")
    guard("appointment", "SELECT, INSERT, UPDATE")
    guard("appointment_event", "SELECT, INSERT")
    guard("allocation", "SELECT, INSERT, DELETE")
    op.execute(RECORD_EVENT)
    op.execute(
        "CREATE TRIGGER record_event AFTER INSERT OR UPDATE ON appointment"
        " FOR EACH ROW EXECUTE FUNCTION record_appointment_event()"
    )


def downgrade() -> None:
    """Remove the tables and what came with them."""
    op.drop_table("allocation")
    op.drop_table("appointment_event")
    op.drop_table("appointment")
    op.drop_table("availability")
    op.drop_table("appointment_type")
    op.execute("DROP FUNCTION record_appointment_event()")
    op.execute("DROP FUNCTION local_to_instant(timestamp, text)")
    op.execute("DROP EXTENSION btree_gist")
