"""Rooms, devices, buffers, one-off openings, time off, holidays, and the open windows made of all that.

New columns have a default, so no row is rewritten. The open windows of the weekly hours that are there
already are made here; `availability` is locked meanwhile, for seconds where a thousand clinicians work.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import APP_ROLE, guard

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FIRST_WINDOWS = """
    INSERT INTO open_window (organization_id, clinician_id, start_at, source_id, local_day, end_at, grid_at,
                             location_id, appointment_type_ids, time_zone)
    SELECT organization_id, clinician_id, opens, id, day, closes, opens, location_id, appointment_type_ids, time_zone
    FROM (
        SELECT a.*, day, local_to_instant(day + a.start_time, a.time_zone) AS opens,
               local_to_instant(day + (a.end_time <= a.start_time)::int + a.end_time, a.time_zone) AS closes
        FROM availability a
        CROSS JOIN LATERAL (
            SELECT (now() AT TIME ZONE 'UTC')::date + n AS day FROM generate_series(-2, 566) AS n
        ) AS days
        WHERE extract(isodow FROM day) = ANY (a.weekdays)
          AND floor((day - a.first_week_on) / 7.0)::int % a.every_weeks = 0
          AND day BETWEEN coalesce(a.valid_from, '-infinity') AND coalesce(a.valid_until, 'infinity')
          AND local_to_instant(day, a.time_zone) < local_to_instant(day + 1, a.time_zone)
    ) AS opening
    WHERE closes > opens
"""


NOTE_UPKEEP = """
    CREATE FUNCTION note_upkeep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO upkeep (id) VALUES (NEW.id);
        RETURN NULL;
    END $$
"""
"""Of a new organisation the upkeep knows by itself: it sees no organisation's name, and no other's rows."""


def upgrade() -> None:
    """Make the tables, and the windows of what is there."""
    for name in ("buffer_before_minutes", "buffer_after_minutes"):
        op.add_column("appointment_type", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
        op.create_check_constraint(op.f(f"ck_appointment_type_{name}"), "appointment_type", f"{name} BETWEEN 0 AND 240")
    op.add_column("appointment_type", sa.Column("needs_room", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column(
        "appointment_type",
        sa.Column("needs_device_kinds", postgresql.ARRAY(sa.TEXT()), server_default="{}", nullable=False),
    )
    op.add_column(
        "availability",
        sa.Column(
            "weeks_of_month",
            postgresql.ARRAY(sa.SmallInteger()),
            nullable=True,
            comment="1 the first such weekday of its month, -1 the last; null: every",
        ),
    )
    op.create_check_constraint(
        op.f("ck_availability_weeks_of_month"),
        "availability",
        "cardinality(weeks_of_month) > 0 AND weeks_of_month <@ '{1,2,3,4,5,-1}'::smallint[]",
    )
    op.drop_constraint(op.f("ck_allocation_kind"), "allocation")
    op.create_check_constraint(
        op.f("ck_allocation_kind"), "allocation", "kind IN ('clinician', 'patient', 'room', 'device')"
    )
    _make_room()
    _make_device()
    _make_availability_exception()
    _make_holidays()
    _make_open_window()
    _make_upkeep()


def _tenant(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=f"fk_{table}_organization_id"),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    ]


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organization_id", column],
        [f"{target}.organization_id", f"{target}.id"],
        name=f"fk_{table}_{column}_{target}",
    )


def _versioned() -> list[sa.Column]:
    return [
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    ]


def _make_room() -> None:
    op.create_table(
        "room",
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *_versioned(),
        *_tenant("room"),
        _reference("room", "location_id", "location"),
        sa.UniqueConstraint("organization_id", "id", name="uq_room_organization_id_id"),
        sa.UniqueConstraint("location_id", "name", name="uq_room_location_id_name"),
    )
    guard("room", "SELECT, INSERT, UPDATE")


def _make_device() -> None:
    op.create_table(
        "device",
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="what appointment types ask for"),
        sa.Column("name", sa.Text(), nullable=False),
        *_versioned(),
        *_tenant("device"),
        _reference("device", "location_id", "location"),
        sa.UniqueConstraint("organization_id", "id", name="uq_device_organization_id_id"),
        sa.UniqueConstraint("location_id", "name", name="uq_device_location_id_name"),
    )
    guard("device", "SELECT, INSERT, UPDATE")


def _make_availability_exception() -> None:
    op.create_table(
        "availability_exception",
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="open: a one-off opening; closed: time off"),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("local_day", sa.Date(), nullable=False, comment="on which it begins, where the clinician is"),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("appointment_type_ids", postgresql.ARRAY(sa.Uuid()), nullable=True, comment="null: every type"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        *_tenant("availability_exception"),
        _reference("availability_exception", "clinician_id", "clinician"),
        _reference("availability_exception", "location_id", "location"),
        sa.CheckConstraint("kind IN ('open', 'closed')", name=op.f("ck_availability_exception_kind")),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_availability_exception_times")),
        sa.CheckConstraint(
            "kind = 'closed' OR end_at <= start_at + interval '24 hours'",
            name=op.f("ck_availability_exception_opening"),
        ),
        sa.CheckConstraint(
            "kind = 'open' OR (location_id IS NULL AND appointment_type_ids IS NULL)",
            name=op.f("ck_availability_exception_closing"),
        ),
        sa.CheckConstraint(
            "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL",
            name=op.f("ck_availability_exception_time_zone"),
        ),
    )
    op.create_index(
        "ix_availability_exception_clinician_id", "availability_exception", ["clinician_id", "kind", "start_at"]
    )
    guard("availability_exception", "SELECT, INSERT, DELETE")


def _make_holidays() -> None:
    op.create_table(
        "holiday_calendar",
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False, comment="ISO 3166-1 alpha-2"),
        sa.Column("subdivision", sa.Text(), nullable=True, comment="the latter part of ISO 3166-2"),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_holiday_calendar_organization_id"),
        sa.PrimaryKeyConstraint("location_id", name="pk_holiday_calendar"),
        _reference("holiday_calendar", "location_id", "location"),
    )
    guard("holiday_calendar", "SELECT, INSERT, UPDATE, DELETE")
    op.create_table(
        "holiday",
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False, comment="own counts before national"),
        sa.Column("closed", sa.Boolean(), nullable=False, comment="false: the site works although it is a holiday"),
        *_tenant("holiday"),
        _reference("holiday", "location_id", "location"),
        sa.CheckConstraint("origin IN ('own', 'national')", name=op.f("ck_holiday_origin")),
        sa.UniqueConstraint("location_id", "day", "origin", name="uq_holiday_location_id_day_origin"),
    )
    guard("holiday", "SELECT, INSERT, DELETE")


def _make_open_window() -> None:
    op.create_table(
        "open_window",
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False, comment="the weekly hours or one-off opening it comes from"),
        sa.Column("local_day", sa.Date(), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "grid_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="where possible starts are counted from: the start of the opening before time off was cut out",
        ),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("appointment_type_ids", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_open_window_organization_id"),
        _reference("open_window", "clinician_id", "clinician"),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_open_window_times")),
        sa.PrimaryKeyConstraint("clinician_id", "start_at", "source_id", "local_day", name="pk_open_window"),
    )
    op.execute("ALTER TABLE availability NO FORCE ROW LEVEL SECURITY")
    op.execute(FIRST_WINDOWS)
    op.execute("ALTER TABLE availability FORCE ROW LEVEL SECURITY")
    guard("open_window", "SELECT, INSERT, DELETE")


def _make_upkeep() -> None:
    op.create_table(
        "upkeep",
        sa.Column("id", sa.Uuid(), nullable=False, comment="the organisation's"),
        sa.Column("kept_on", sa.Date(), nullable=True, comment="when its open windows were last looked after"),
        sa.ForeignKeyConstraint(["id"], ["organization.id"], name="fk_upkeep_id"),
        sa.PrimaryKeyConstraint("id", name="pk_upkeep"),
    )
    op.execute("ALTER TABLE organization NO FORCE ROW LEVEL SECURITY")
    op.execute("INSERT INTO upkeep (id) SELECT id FROM organization")
    op.execute("ALTER TABLE organization FORCE ROW LEVEL SECURITY")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON upkeep TO {APP_ROLE}")
    op.execute(NOTE_UPKEEP)
    op.execute("CREATE TRIGGER note_upkeep AFTER INSERT ON organization FOR EACH ROW EXECUTE FUNCTION note_upkeep()")


def downgrade() -> None:
    """Remove the tables and columns; claims on rooms and devices go with them."""
    op.execute("DROP TRIGGER note_upkeep ON organization")
    op.execute("DROP FUNCTION note_upkeep()")
    op.drop_table("upkeep")
    for table in ("open_window", "holiday", "holiday_calendar", "availability_exception", "device", "room"):
        op.drop_table(table)
    op.execute("ALTER TABLE allocation NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM allocation WHERE kind IN ('room', 'device')")
    op.execute("ALTER TABLE allocation FORCE ROW LEVEL SECURITY")
    op.drop_constraint(op.f("ck_allocation_kind"), "allocation")
    op.create_check_constraint(op.f("ck_allocation_kind"), "allocation", "kind IN ('clinician', 'patient')")
    op.drop_column("availability", "weeks_of_month")
    for name in ("needs_device_kinds", "needs_room", "buffer_after_minutes", "buffer_before_minutes"):
        op.drop_column("appointment_type", name)
