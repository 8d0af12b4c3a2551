"""Who acts for a patient: proxies, their age limit in the clinic's zone, and visits they are not shown.

Adds columns with constant defaults and replaces functions and one policy: no table is rewritten or locked for long.
The previous release runs on it, and shows proxies nothing.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, guard_function, guard_sight

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CARED_PATIENTS = """
    CREATE FUNCTION cared_patients(caller uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT c.patient_id FROM care(caller) c
        WHERE c.starts_at <= now() AND now() < c.ends_at
          AND NOT EXISTS (SELECT FROM patient p WHERE p.organization_id = current_organization()
                                                  AND p.id = c.patient_id AND p.user_id = caller)
    $$
"""
"""The patients whom the user cares for now as staff; never themselves (hard case 9)."""

PROXIED_PATIENTS = """
    CREATE FUNCTION proxied_patients(caller uuid, wanted text) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT x.patient_id
        FROM patient_proxy x
        JOIN organization o ON o.id = x.organization_id
        JOIN patient p ON p.organization_id = x.organization_id AND p.id = x.patient_id
        WHERE x.organization_id = current_organization() AND x.user_id = caller AND wanted = ANY (x.scopes)
          AND x.approved_at <= now() AND x.starts_at <= now()
          AND (x.ends_at IS NULL OR now() < x.ends_at) AND x.revoked_at IS NULL
          AND (x.basis NOT IN ('parent', 'guardian')
               OR (now() AT TIME ZONE o.time_zone)::date < p.birth_date + make_interval(years => o.proxy_age_limit))
          AND has_role(caller, 'patient')
    $$
"""
"""The patients whom the user may act for now, in this scope.

The day a child reaches the age limit, in the clinic's zone, ends it without any job (hard case 4).
"""

SEEN_PATIENTS = """
    CREATE OR REPLACE FUNCTION seen_patients(caller uuid) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT own_patients(caller)
      UNION
        SELECT proxied_patients(caller, 'record')
      UNION
        SELECT cared_patients(caller)
    $$
"""
SEEN_PATIENTS_BEFORE = """
    CREATE OR REPLACE FUNCTION seen_patients(caller uuid) RETURNS SETOF uuid
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

STAFF_OR_OWN = """
    (SELECT unbound()) OR (SELECT has_role(caller_id(), 'admin', 'nurse', 'receptionist'))
    OR clinician_id = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'clinician'))
    OR created_by = (SELECT caller_id()) AND (SELECT has_role(caller_id(), 'service'))
    OR patient_id IN (SELECT own_patients(caller_id()))
"""
DIARIES = f"""{STAFF_OR_OWN}
    OR NOT sensitive AND patient_id IN (SELECT proxied_patients(caller_id(), 'appointments'))
"""
"""Schedule fields: as before, and of proxies those that are not sensitive (hard case 5)."""

PROXIES = """
    (SELECT unbound()) OR (SELECT sees_every_patient(caller_id()))
    OR user_id = (SELECT caller_id()) OR (SELECT has_role(caller_id(), 'auditor'))
    OR patient_id IN (SELECT own_patients(caller_id()) UNION SELECT cared_patients(caller_id()))
"""


def upgrade() -> None:
    """Make the table, the columns, the functions and the policies."""
    op.add_column(
        "organization",
        sa.Column("time_zone", sa.Text(), nullable=False, server_default="UTC", comment="where its days begin and end"),
    )
    op.add_column(
        "organization",
        sa.Column(
            "proxy_age_limit",
            sa.SmallInteger(),
            nullable=False,
            server_default="16",
            comment="years of age from which a parent or guardian no longer acts for a patient",
        ),
    )
    op.add_column("organization", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.create_check_constraint("proxy_age_limit", "organization", "proxy_age_limit BETWEEN 0 AND 25")
    op.create_check_constraint("time_zone", "organization", "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL")
    op.add_column(
        "appointment",
        sa.Column("sensitive", sa.Boolean(), nullable=False, server_default=sa.false(), comment="not for proxies"),
    )
    _make_proxy()
    for function in (CARED_PATIENTS, PROXIED_PATIENTS, SEEN_PATIENTS):
        op.execute(function)
    for signature in ("cared_patients(uuid)", "proxied_patients(uuid, text)"):
        guard_function(signature)
    guard_sight("patient_proxy", PROXIES)
    op.execute("DROP POLICY sight ON appointment")
    guard_sight("appointment", DIARIES)


def downgrade() -> None:
    """Remove what came."""
    op.execute("DROP POLICY sight ON appointment")
    guard_sight("appointment", STAFF_OR_OWN)
    op.execute(SEEN_PATIENTS_BEFORE)
    op.drop_table("patient_proxy")
    op.execute("DROP FUNCTION proxied_patients(uuid, text)")
    op.execute("DROP FUNCTION cared_patients(uuid)")
    op.drop_column("appointment", "sensitive")
    for column in ("version", "proxy_age_limit", "time_zone"):
        op.drop_column("organization", column)


def _make_proxy() -> None:
    op.create_table(
        "patient_proxy",
        sa.Column("patient_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False, comment="who acts for the patient"),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("proof", sa.Text(), nullable=True, comment="where the document is that shows it"),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True, comment="null: until somebody revokes it"),
        sa.Column("proposed_by", sa.Uuid(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("approved_by", sa.Uuid(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True, comment="null: it gives nothing yet"),
        sa.Column("revoked_by", sa.Uuid(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoke_reason", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "basis IN ('parent', 'guardian', 'incapacity', 'consent')", name=op.f("ck_patient_proxy_basis")
        ),
        sa.CheckConstraint(
            "scopes <@ ARRAY['record', 'appointments'] AND scopes <> '{}'", name=op.f("ck_patient_proxy_scopes")
        ),
        sa.CheckConstraint("basis = 'consent' OR proof IS NOT NULL", name=op.f("ck_patient_proxy_proof")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_patient_proxy_times")),
        sa.CheckConstraint(
            "basis = 'consent' OR approved_by <> proposed_by", name=op.f("ck_patient_proxy_second_person")
        ),
        sa.CheckConstraint("(approved_at IS NULL) = (approved_by IS NULL)", name=op.f("ck_patient_proxy_approved")),
        sa.ForeignKeyConstraint(
            ["organization_id", "patient_id"],
            ["patient.organization_id", "patient.id"],
            name="fk_patient_proxy_patient_id_patient",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_patient_proxy_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_patient_proxy_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_patient_proxy"),
    )
    op.create_index("ix_patient_proxy_user_id", "patient_proxy", ["user_id"])
    op.create_index(
        "uq_patient_proxy_patient_id_user_id",
        "patient_proxy",
        ["patient_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    guard(
        "patient_proxy",
        "SELECT, INSERT, UPDATE (approved_by, approved_at, revoked_by, revoked_at, revoke_reason)",
    )
