"""Visits of several lengths, with several clinicians, in groups; pools of like devices.

Columns are added with constant defaults. The exclusion constraint of allocation is made anew, without pools, which
locks it for as long as one scan takes; a trigger refuses what a pool cannot hold. Row-level security, grants,
functions and triggers are written by hand: autogenerate does not see them. The previous release runs on it while
no group, pool or second clinician is used.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_function, guard_sight, same_organization

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

FULL_TIMES = """
    CREATE FUNCTION full_times(thing uuid, capacity integer, since timestamptz, until timestamptz, now timestamptz,
                               but uuid)
    RETURNS TABLE (start_at timestamptz, end_at timestamptz) LANGUAGE sql STABLE
    AS $$
        WITH claim AS (
            SELECT a.start_at, a.end_at FROM allocation a
            WHERE a.bookable_id = thing AND a.start_at < until AND a.end_at > since
              AND a.start_at > since - interval '36 hours'
              AND (a.expires_at IS NULL OR a.expires_at > now)
              AND coalesce(a.appointment_id, a.hold_id, a.session_id) IS DISTINCT FROM but
        ), step AS (
            SELECT at, sum(sum(change)) OVER (ORDER BY at) AS depth, lead(at) OVER (ORDER BY at) AS next
            FROM (SELECT start_at AS at, 1 AS change FROM claim UNION ALL SELECT end_at, -1 FROM claim) AS change
            GROUP BY at
        )
        SELECT at, next FROM step WHERE depth >= capacity
    $$
"""
"""When as many have the room, device or pool at once as it can hold: a running sum over starts and ends."""

KEEP_CAPACITY = """
    CREATE FUNCTION keep_capacity() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended(NEW.bookable_id::text, 0));
        IF EXISTS (
            SELECT FROM device d
            CROSS JOIN LATERAL full_times(d.id, d.capacity, NEW.start_at, NEW.end_at, '-infinity', NULL)
            WHERE d.id = NEW.bookable_id
        ) THEN
            RETURN NULL;
        END IF;
        RETURN NEW;
    END $$
"""
"""A claim on a pool that is full is left out of the INSERT, as ON CONFLICT DO NOTHING leaves out the others.

Claims on a pool wait for each other, so the sum is of what is committed. An expired hold counts until it is removed.
"""

CARE = """
    CREATE OR REPLACE FUNCTION care(caller uuid)
    RETURNS TABLE (patient_id uuid, kind text, origin text, source_id uuid, starts_at timestamptz, ends_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT a.patient_id, 'relationship', 'appointment', a.id, a.care_from,
               least(a.end_at + interval '90 days', a.released_at + interval '24 hours')
        FROM appointment a
        WHERE a.organization_id = current_organization() AND a.clinician_id = caller AND a.care_from IS NOT NULL
          AND has_role(caller, 'clinician', 'nurse'){together}
      UNION ALL
        SELECT r.patient_id, 'relationship', r.origin, r.id, r.starts_at,
               least(r.ends_at, r.ended_at, timestamptz 'infinity')
        FROM care_relationship r
        WHERE r.organization_id = current_organization() AND r.user_id = caller
          AND has_role(caller, 'clinician', 'nurse')
      UNION ALL
        SELECT g.patient_id, 'grant', 'break-glass', g.id, g.starts_at, g.expires_at
        FROM break_glass_grant g
        WHERE g.organization_id = current_organization() AND g.user_id = caller
          AND has_role(caller, 'clinician', 'nurse')
    $$
"""
TOGETHER = """
      UNION ALL
        SELECT a.patient_id, 'relationship', 'appointment', a.id, p.care_from,
               least(a.end_at + interval '90 days', a.released_at + interval '24 hours')
        FROM appointment_participant p
        JOIN appointment a ON a.organization_id = p.organization_id AND a.id = p.appointment_id
        WHERE p.organization_id = current_organization() AND p.clinician_id = caller AND p.care_from IS NOT NULL
          AND has_role(caller, 'clinician', 'nurse')"""
"""A visit gives sight to everybody who takes part in it."""

NOTE_PARTICIPANT = """
    CREATE FUNCTION note_participant() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.care_from := CASE WHEN caller_id() IS DISTINCT FROM NEW.clinician_id THEN now() END;
        RETURN NEW;
    END $$
"""
"""As with one's own diary: who takes part because they said so themselves sees nothing more by that."""

TAKING_PART = """
    CREATE FUNCTION taking_part(caller uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT p.appointment_id FROM appointment_participant p
        WHERE p.organization_id = current_organization() AND p.clinician_id = caller AND has_role(caller, 'clinician')
    $$
"""
"""The appointments in which the user is the second or third clinician. It runs with its owner's rights, because
policies of the tables call it."""

DIARIES_BEFORE = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'admin', 'nurse', 'receptionist'))
    OR clinician_id = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'clinician'))
    OR created_by = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'service'))
    OR patient_id IN (SELECT own_patients(caller_id()))
    OR NOT sensitive AND patient_id IN (SELECT proxied_patients(caller_id(), 'appointments'))
"""
DIARIES = f"{DIARIES_BEFORE} OR id IN (SELECT taking_part(caller_id()))"
KINDS = "kind IN ('clinician', 'patient', 'room', 'device', 'overbook')"
MORE_KINDS = "kind IN ('clinician', 'patient', 'room', 'device', 'pool', 'overbook')"


def upgrade() -> None:
    """Make the tables, columns, functions and triggers."""
    _add_to_types_and_devices()
    _make_group_session()
    _add_to_allocation()
    _make_participants()
    op.execute(FULL_TIMES)
    guard_function("full_times(uuid, integer, timestamptz, timestamptz, timestamptz, uuid)")
    op.execute(KEEP_CAPACITY)
    op.execute(
        "CREATE TRIGGER keep_capacity BEFORE INSERT ON allocation FOR EACH ROW WHEN (NEW.kind = 'pool')"
        " EXECUTE FUNCTION keep_capacity()"
    )


def downgrade() -> None:
    """Remove what came; groups and pools must be empty."""
    op.execute("DROP TRIGGER keep_capacity ON allocation")
    op.execute("DROP FUNCTION keep_capacity()")
    op.execute("DROP FUNCTION full_times(uuid, integer, timestamptz, timestamptz, timestamptz, uuid)")
    op.execute(CARE.format(together=""))
    op.execute("DROP POLICY sight ON appointment")
    guard_sight("appointment", DIARIES_BEFORE)
    op.execute("DROP FUNCTION taking_part(uuid)")
    op.drop_table("appointment_participant")
    op.execute("DROP FUNCTION note_participant()")
    op.execute("ALTER TABLE allocation NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM allocation WHERE session_id IS NOT NULL OR kind = 'pool'")
    op.execute("ALTER TABLE allocation FORCE ROW LEVEL SECURITY")
    _remake_claims(KINDS, "", "num_nonnulls(appointment_id, hold_id) = 1")
    op.drop_column("allocation", "session_id")
    op.drop_column("appointment", "session_id")
    op.drop_table("group_session")
    op.drop_column("device", "capacity")
    op.drop_column("appointment_type", "group_capacity")
    op.drop_column("appointment_type", "other_durations_minutes")


def _add_to_types_and_devices() -> None:
    op.add_column(
        "appointment_type",
        sa.Column(
            "other_durations_minutes",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            server_default="{}",
            comment="that it may last instead",
        ),
    )
    op.create_check_constraint(
        "other_durations_minutes",
        "appointment_type",
        "1 <= ALL (other_durations_minutes) AND 1440 >= ALL (other_durations_minutes)",
    )
    op.add_column(
        "appointment_type",
        sa.Column("group_capacity", sa.Integer(), comment="so many patients come to one visit; null: one alone"),
    )
    op.create_check_constraint("group_capacity", "appointment_type", "group_capacity BETWEEN 2 AND 1000")
    op.add_column(
        "device",
        sa.Column(
            "capacity",
            sa.Integer(),
            nullable=False,
            server_default="1",
            comment="so many visits can have it at once; more than 1: a pool of like things",
        ),
    )
    op.create_check_constraint("capacity", "device", "capacity BETWEEN 1 AND 1000")


def _make_group_session() -> None:
    op.create_table(
        "group_session",
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_type_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=True),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("booked", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_group_session_times")),
        sa.CheckConstraint("booked BETWEEN 0 AND capacity", name=op.f("ck_group_session_booked")),
        *same_organization(
            "group_session",
            clinician_id="clinician",
            appointment_type_id="appointment_type",
            location_id="location",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_group_session_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_group_session"),
        sa.UniqueConstraint("organization_id", "id", name="uq_group_session_organization_id_id"),
        sa.UniqueConstraint(
            "clinician_id",
            "start_at",
            "appointment_type_id",
            name="uq_group_session_clinician_id_start_at_appointment_type_id",
        ),
    )
    guard("group_session", "SELECT, INSERT, UPDATE (location_id, end_at, time_zone, capacity, booked)")
    op.add_column("appointment", sa.Column("session_id", sa.Uuid(), comment="of a group"))
    op.create_foreign_key(
        "fk_appointment_session_id_group_session",
        "appointment",
        "group_session",
        ["organization_id", "session_id"],
        ["organization_id", "id"],
    )
    op.execute("GRANT UPDATE (session_id) ON appointment TO medical_app")


def _add_to_allocation() -> None:
    op.add_column("allocation", sa.Column("session_id", sa.Uuid()))
    op.create_foreign_key(
        "fk_allocation_session_id_group_session",
        "allocation",
        "group_session",
        ["organization_id", "session_id"],
        ["organization_id", "id"],
        deferrable=True,
        initially="DEFERRED",
    )
    op.create_index("ix_allocation_session_id", "allocation", ["session_id"])
    _remake_claims(MORE_KINDS, "WHERE (kind <> 'pool')", "num_nonnulls(appointment_id, hold_id, session_id) = 1")


def _remake_claims(kinds: str, where: str, claimant: str) -> None:
    for name, condition in (("kind", kinds), ("claimant", claimant)):
        op.drop_constraint(op.f(f"ck_allocation_{name}"), "allocation")
        op.create_check_constraint(name, "allocation", condition)
    op.execute("ALTER TABLE allocation DROP CONSTRAINT ex_allocation_bookable_id_during")
    op.execute(
        "ALTER TABLE allocation ADD CONSTRAINT ex_allocation_bookable_id_during"
        f" EXCLUDE USING gist (bookable_id WITH =, during WITH &&) {where}"
    )


def _make_participants() -> None:
    op.create_table(
        "appointment_participant",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("appointment_id", sa.Uuid(), nullable=False),
        sa.Column("clinician_id", sa.Uuid(), nullable=False),
        sa.Column(
            "care_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when it gives them sight of the patient; null: they booked it themselves",
        ),
        *same_organization("appointment_participant", appointment_id="appointment", clinician_id="clinician"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organization.id"], name="fk_appointment_participant_organization_id"
        ),
        sa.PrimaryKeyConstraint("appointment_id", "clinician_id", name="pk_appointment_participant"),
    )
    op.create_index("ix_appointment_participant_clinician_id", "appointment_participant", ["clinician_id"])
    guard("appointment_participant", "SELECT, INSERT, DELETE")
    guard_sight("appointment_participant", "EXISTS (SELECT FROM appointment a WHERE a.id = appointment_id)")
    op.execute(NOTE_PARTICIPANT)
    op.execute(
        "CREATE TRIGGER note_participant BEFORE INSERT ON appointment_participant FOR EACH ROW"
        " EXECUTE FUNCTION note_participant()"
    )
    op.execute(TAKING_PART)
    guard_function("taking_part(uuid)")
    op.execute(CARE.format(together=TOGETHER))
    op.execute("DROP POLICY sight ON appointment")
    guard_sight("appointment", DIARIES)
