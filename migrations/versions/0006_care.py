"""Who cares for whom: relationships, break-glass, and row-level security that follows them.

Adds columns and a trigger to appointment and fills the columns once: it locks appointment for as long
as one UPDATE of it takes. The previous release runs on it, but sees what the new policies allow.
Functions, policies, the trigger and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_columns, guard_function, guard_sight, same_organization

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CALLER_ID = """
    CREATE FUNCTION caller_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('app.user_id', true), '')::uuid $$
"""
"""The user a transaction works for; null for the program itself."""

NOTE_CARE = """
    CREATE FUNCTION note_care() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            NEW.created_by := coalesce(NEW.created_by, caller_id());
            NEW.care_from := CASE WHEN caller_id() IS DISTINCT FROM NEW.clinician_id THEN NEW.created_at END;
        ELSIF NEW.clinician_id <> OLD.clinician_id THEN
            NEW.care_from := CASE WHEN caller_id() IS DISTINCT FROM NEW.clinician_id THEN now() END;
        ELSIF NEW.care_from IS NULL AND caller_id() IS DISTINCT FROM NEW.clinician_id
              AND (NEW.start_at <> OLD.start_at OR NEW.status = 'checked_in' AND OLD.status <> 'checked_in') THEN
            NEW.care_from := now();
        END IF;
        NEW.released_at := CASE WHEN NEW.status IN ('cancelled', 'no_show') THEN coalesce(NEW.released_at, now()) END;
        RETURN NEW;
    END $$
"""
"""Booking somebody into one's own diary gives no sight of them until somebody else has a hand in it."""

HAS_ROLE = """
    CREATE FUNCTION has_role(user_id uuid, VARIADIC roles text[]) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT EXISTS (SELECT FROM role_grant g WHERE g.user_id = $1 AND g.role = ANY (roles)) $$
"""

CARE = """
    CREATE FUNCTION care(caller uuid)
    RETURNS TABLE (patient_id uuid, kind text, origin text, source_id uuid, starts_at timestamptz, ends_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT a.patient_id, 'relationship', 'appointment', a.id, a.care_from,
               least(a.end_at + interval '90 days', a.released_at + interval '24 hours')
        FROM appointment a
        WHERE a.organization_id = current_organization() AND a.clinician_id = caller AND a.care_from IS NOT NULL
          AND has_role(caller, 'clinician', 'nurse')
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
"""Everything that gives or gave this user sight of a patient's record as staff: the one place that says so.

A visit counts from booking until 90 days after its end, a cancelled or missed one for 24 hours more, to
finish notes. It runs with its owner's rights, because policies of the tables it reads call it.
"""

OWN_PATIENTS = """
    CREATE FUNCTION own_patients(caller uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT p.id FROM patient p
        WHERE p.organization_id = current_organization() AND p.user_id = caller AND has_role(caller, 'patient')
    $$
"""
"""Whose record is the user's own: theirs, in the role of a patient only."""

SEEN_PATIENTS = """
    CREATE FUNCTION seen_patients(caller uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT own_patients(caller)
      UNION
        SELECT c.patient_id FROM care(caller) c
        WHERE c.starts_at <= now() AND now() < c.ends_at
          AND NOT EXISTS (SELECT FROM patient p WHERE p.organization_id = current_organization()
                                                  AND p.id = c.patient_id AND p.user_id = caller)
    $$
"""
"""The patients whose record the user sees now; staff never their own (hard case 9)."""

SEES_EVERY_PATIENT = """
    CREATE FUNCTION sees_every_patient(caller uuid) RETURNS boolean LANGUAGE sql STABLE
    AS $$
        SELECT has_role(caller, 'admin', 'receptionist', 'service')
    $$
"""
"""Whether the user sees the demographics of all the organisation's patients."""

UNBOUND = """
    CREATE FUNCTION unbound() RETURNS boolean LANGUAGE sql STABLE
    AS $$
        SELECT caller_id() IS NULL OR pg_has_role(current_user, c.relowner, 'USAGE')
        FROM pg_class c WHERE c.oid = 'organization'::regclass
    $$
"""
"""Whether sight binds this work at all: not the program's own, for no user, and not the functions above."""

PATIENT_CARD = """
    CREATE FUNCTION patient_cards(wanted uuid)
    RETURNS TABLE (id uuid, mrn text, given_name text, family_name text, birth_date date, sex text,
                   version integer, user_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT p.id, p.mrn, p.given_name, p.family_name, p.birth_date, p.sex, p.version, p.user_id
        FROM patient p WHERE p.organization_id = current_organization() AND p.id = wanted
    $$
"""
SEARCH_CARDS = """
    CREATE FUNCTION search_patient_cards(q text, likeness real)
    RETURNS TABLE (id uuid, mrn text, given_name text, family_name text, birth_date date, sex text,
                   version integer, rank double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT p.id, p.mrn, p.given_name, p.family_name, p.birth_date, p.sex, p.version,
               CASE WHEN p.mrn = upper(q) OR p.birth_date::text = q THEN 2.0
                    ELSE round((word_similarity(search_key(q), p.search_name) * 1000)::double precision) / 1000 END
        FROM patient p
        WHERE p.organization_id = current_organization()
          AND (p.mrn = upper(q) OR p.birth_date::text = q OR strpos(p.search_name, search_key(q)) > 0
               OR word_similarity(search_key(q), p.search_name) >= likeness)
          AND p.id NOT IN (SELECT seen_patients(caller_id()))
    $$
"""
"""The minimal card of patients whose record the caller does not see: enough to recognise somebody, no more."""

FUNCTIONS = (
    "search_patient_cards(text, real)",
    "patient_cards(uuid)",
    "unbound()",
    "sees_every_patient(uuid)",
    "seen_patients(uuid)",
    "own_patients(uuid)",
    "care(uuid)",
    "has_role(uuid, text[])",
    "caller_id()",
)
OPEN = "(SELECT unbound()) OR (SELECT sees_every_patient(caller_id()))"
SEEN = f"{OPEN} OR patient_id IN (SELECT seen_patients(caller_id()))"
DIARIES = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'admin', 'nurse', 'receptionist'))
    OR clinician_id = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'clinician'))
    OR created_by = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'service'))
    OR patient_id IN (SELECT own_patients(caller_id()))
"""
"""Schedule fields: the desk's, the clinician's whose diary it is, the client's that booked, the patient's."""

CHANGEABLE = (
    "clinician_id, location_id, status, start_at, end_at, time_zone, local_start, reason, status_reason, version,"
    " care_from, released_at"
)


def upgrade() -> None:
    """Make the tables, the functions and the second wall."""
    op.execute(CALLER_ID)
    _add_to_appointment()
    _make_relationship()
    _make_break_glass()
    for function in (HAS_ROLE, CARE, OWN_PATIENTS, SEEN_PATIENTS, SEES_EVERY_PATIENT, UNBOUND):
        op.execute(function)
    op.execute(PATIENT_CARD)
    op.execute(SEARCH_CARDS)
    for function in FUNCTIONS:
        guard_function(function)
    guard_sight("patient", SEEN.replace("patient_id", "id", 1))
    guard_sight("patient_identifier", SEEN)
    guard_sight("appointment", DIARIES)
    guard_sight("appointment_event", "EXISTS (SELECT FROM appointment a WHERE a.id = appointment_id)")
    guard_sight("care_relationship", SEEN)
    guard_sight(
        "break_glass_grant",
        "(SELECT unbound()) OR (SELECT has_role(caller_id(), 'auditor', 'clinician'))"
        " OR user_id = (SELECT caller_id())",
    )
    guard_columns("appointment", CHANGEABLE)


def downgrade() -> None:
    """Remove what came."""
    op.execute("GRANT UPDATE ON appointment TO medical_app")
    for table in ("patient", "patient_identifier", "appointment", "appointment_event"):
        op.execute(f"DROP POLICY sight ON {table}")
    op.drop_table("break_glass_grant")
    op.drop_table("care_relationship")
    op.execute("DROP TRIGGER note_care ON appointment")
    op.execute("DROP FUNCTION note_care()")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    for column in ("released_at", "care_from", "created_by"):
        op.drop_column("appointment", column)


def _add_to_appointment() -> None:
    op.add_column("appointment", sa.Column("created_by", sa.Uuid(), nullable=True, comment="who booked it"))
    op.add_column(
        "appointment",
        sa.Column(
            "care_from",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when it gives its clinician sight of the patient; null: they booked it themselves",
        ),
    )
    op.add_column(
        "appointment",
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True, comment="when it was cancelled or missed"),
    )
    op.create_index("ix_appointment_created_by", "appointment", ["created_by"])
    op.execute("ALTER TABLE appointment DISABLE TRIGGER record_event")
    op.execute(
        """
        UPDATE appointment a SET
            created_by = e.actor_id,
            care_from = CASE WHEN e.actor_id IS DISTINCT FROM a.clinician_id THEN a.created_at END,
            released_at = CASE WHEN a.status IN ('cancelled', 'no_show') THEN
                (SELECT max(l.occurred_at) FROM appointment_event l WHERE l.appointment_id = a.id) END
        FROM appointment_event e WHERE e.appointment_id = a.id AND e.version = 1
        """
    )
    op.execute("ALTER TABLE appointment ENABLE TRIGGER record_event")
    op.execute(NOTE_CARE)
    op.execute(
        "CREATE TRIGGER note_care BEFORE INSERT OR UPDATE ON appointment FOR EACH ROW EXECUTE FUNCTION note_care()"
    )


def _make_relationship() -> None:
    op.create_table(
        "care_relationship",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False, comment="the clinician or nurse who cares"),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True, comment="null: until somebody ends it"),
        sa.Column("created_by", sa.Uuid(), nullable=True, comment="null: the program itself"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("origin IN ('assignment', 'referral')", name=op.f("ck_care_relationship_origin")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_care_relationship_times")),
        sa.CheckConstraint("created_by <> user_id", name=op.f("ck_care_relationship_not_to_oneself")),
        *same_organization("care_relationship", patient_id="patient", user_id="users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_care_relationship_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_care_relationship"),
    )
    op.create_index("ix_care_relationship_patient_id", "care_relationship", ["patient_id"])
    op.create_index("ix_care_relationship_user_id", "care_relationship", ["user_id"])
    guard("care_relationship", "SELECT, INSERT, UPDATE (ended_at, ended_by, end_reason)")


def _make_break_glass() -> None:
    op.create_table(
        "break_glass_grant",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False, comment="who broke the glass"),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "during",
            postgresql.TSTZRANGE(),
            sa.Computed("tstzrange(starts_at, expires_at)", persisted=True),
            nullable=False,
        ),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reviewed_by", sa.Uuid(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "reason_code IN ('EMERGENCY', 'COVERAGE', 'PATIENT_REQUEST', 'OTHER')",
            name=op.f("ck_break_glass_grant_reason_code"),
        ),
        sa.CheckConstraint("expires_at > starts_at", name=op.f("ck_break_glass_grant_times")),
        sa.CheckConstraint("outcome IN ('justified', 'unjustified')", name=op.f("ck_break_glass_grant_outcome")),
        sa.CheckConstraint("reviewed_by <> user_id", name=op.f("ck_break_glass_grant_not_by_oneself")),
        sa.CheckConstraint("(reviewed_at IS NULL) = (outcome IS NULL)", name=op.f("ck_break_glass_grant_reviewed")),
        postgresql.ExcludeConstraint(
            (sa.column("user_id"), "="),
            (sa.column("patient_id"), "="),
            (sa.column("during"), "&&"),
            using="gist",
            name="ex_break_glass_grant_user_id_patient_id_during",
        ),
        *same_organization("break_glass_grant", patient_id="patient", user_id="users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_break_glass_grant_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_break_glass_grant"),
    )
    op.create_index("ix_break_glass_grant_starts_at", "break_glass_grant", ["organization_id", "starts_at"])
    guard("break_glass_grant", "SELECT, INSERT, UPDATE (reviewed_at, reviewed_by, outcome, comment)")
