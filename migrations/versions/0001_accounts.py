"""Organisations, accounts, sign-in, the trail and idempotency keys.

On a new database it locks nothing that anybody uses. Row-level security,
grants and functions are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and their guards."""
    op.execute(
        """
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'medical_app') THEN
                CREATE ROLE medical_app NOLOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server made it at the same moment
        END $$
        """
    )
    op.execute(
        """
        DO $$ BEGIN
            IF NOT pg_has_role(current_user, 'medical_app', 'USAGE') THEN
                GRANT medical_app TO CURRENT_USER;
            END IF;
        END $$
        """
    )
    op.execute("GRANT SELECT ON alembic_version TO medical_app")
    op.execute(
        """
        CREATE FUNCTION current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT nullif(current_setting('app.organization_id', true), '')::uuid $$
        """
    )
    op.create_table(
        "organization",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "self_registration",
            sa.Boolean(),
            nullable=False,
            comment="where people who register themselves go; one at most",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organization"),
        sa.UniqueConstraint("name", name="uq_organization_name"),
    )
    op.create_index(
        "uq_organization_self_registration",
        "organization",
        ["self_registration"],
        unique=True,
        postgresql_where=sa.text("self_registration"),
    )
    op.create_table(
        "users",
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("given_name", sa.Text(), nullable=False),
        sa.Column("family_name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True, comment="argon2id; null: cannot sign in by password"),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_lower")),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_users_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.UniqueConstraint("organization_id", "id", name="uq_users_organization_id_id"),
    )
    op.create_table(
        "role_grant",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("granted_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "role IN ('admin', 'clinician', 'nurse', 'receptionist', 'patient', 'auditor', 'service')",
            name=op.f("ck_role_grant_role"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_role_grant_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_role_grant_organization_id"),
        sa.PrimaryKeyConstraint("user_id", "role", name="pk_role_grant"),
    )
    op.create_table(
        "auth_session",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_auth_session_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_auth_session_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_auth_session"),
        sa.UniqueConstraint("organization_id", "id", name="uq_auth_session_organization_id_id"),
    )
    op.create_index("ix_auth_session_user_id", "auth_session", ["user_id"], unique=False)
    op.create_table(
        "refresh_token",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False, comment="counts the rotations of the sign-in"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "session_id"],
            ["auth_session.organization_id", "auth_session.id"],
            name="fk_refresh_token_session_id_auth_session",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_refresh_token_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_token"),
        sa.UniqueConstraint("digest", name="uq_refresh_token_digest"),
        sa.UniqueConstraint("session_id", "generation", name="uq_refresh_token_session_id_generation"),
    )
    op.create_table(
        "signing_key",
        sa.Column("id", sa.Text(), nullable=False, comment="the kid of tokens"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False, comment="Ed25519, encrypted under SECRET_KEY"),
        sa.Column("public_key", sa.LargeBinary(), nullable=False, comment="Ed25519, raw"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('next', 'active', 'retired')", name=op.f("ck_signing_key_status")),
        sa.PrimaryKeyConstraint("id", name="pk_signing_key"),
    )
    op.create_index(
        "uq_signing_key_active",
        "signing_key",
        ["status"],
        unique=True,
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "organization_id",
            sa.Uuid(),
            nullable=True,
            comment="null: nobody's, such as a sign-in to an account that does not exist",
        ),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("actor_roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="success, refused or denied"),
        sa.Column("code", sa.Text(), nullable=True, comment="code of the refusal"),
        sa.Column("patient_id", sa.Uuid(), nullable=True),
        sa.Column("entity_type", sa.Text(), nullable=True),
        sa.Column("entity_id", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True, comment="network address of the caller"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_audit_event_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
    )
    op.create_index(
        "ix_audit_event_organization_id_occurred_at",
        "audit_event",
        ["organization_id", "occurred_at"],
        unique=False,
    )
    op.create_index(
        "ix_audit_event_organization_id_patient_id_occurred_at",
        "audit_event",
        ["organization_id", "patient_id", "occurred_at"],
        unique=False,
    )
    op.create_table(
        "idempotency_key",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("caller", sa.Text(), nullable=False, comment="user id, or source address of a guest"),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="HMAC-SHA-256 of method, path and body"),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", sa.LargeBinary(), nullable=True, comment="JSON object"),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_idempotency_key_organization_id"),
        sa.PrimaryKeyConstraint("organization_id", "caller", "key", name="pk_idempotency_key"),
    )
    op.create_index("ix_idempotency_key_expires_at", "idempotency_key", ["expires_at"], unique=False)
    guard("users", "SELECT, INSERT, UPDATE")
    guard("role_grant", "SELECT, INSERT, DELETE")
    guard("auth_session", "SELECT, INSERT, UPDATE")
    guard("refresh_token", "SELECT, INSERT, UPDATE")
    guard("idempotency_key", "SELECT, INSERT, UPDATE, DELETE")
    op.execute("GRANT SELECT, INSERT ON signing_key TO medical_app")
    _guard_organization()
    _open_sign_in()
    _guard_trail()


def downgrade() -> None:
    """Remove the tables and what came with them."""
    op.drop_table("idempotency_key")
    op.drop_table("audit_event")
    op.drop_table("signing_key")
    op.drop_table("refresh_token")
    op.drop_table("auth_session")
    op.drop_table("role_grant")
    op.drop_table("users")
    op.drop_table("organization")
    op.execute("DROP FUNCTION current_organization()")
    op.execute("REVOKE ALL ON alembic_version FROM medical_app")


def _guard_organization() -> None:
    """An organisation is seen by its own people; by everybody, if it takes registrations; by who can name it."""
    op.execute("GRANT SELECT, INSERT, UPDATE ON organization TO medical_app")
    op.execute("ALTER TABLE organization ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE organization FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY own ON organization USING (id = (SELECT current_organization()))")
    op.execute("CREATE POLICY open ON organization FOR SELECT USING (self_registration)")
    op.execute(
        "CREATE POLICY named ON organization FOR SELECT"
        " USING (name = (SELECT nullif(current_setting('app.organization_name', true), '')))"
    )


def _open_sign_in() -> None:
    """Before sign-in no organisation is known: an account is seen by who names exactly its email."""
    op.execute(
        "CREATE POLICY sign_in ON users FOR SELECT"
        " USING (email = (SELECT nullif(current_setting('app.login_email', true), '')))"
    )


def _guard_trail() -> None:
    """Events are added and read, never changed; those of nobody's organisation can be added only."""
    op.execute("GRANT SELECT, INSERT ON audit_event TO medical_app")
    op.execute("ALTER TABLE audit_event ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_event FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY read ON audit_event FOR SELECT USING (organization_id = (SELECT current_organization()))")
    op.execute(
        "CREATE POLICY add ON audit_event FOR INSERT"
        " WITH CHECK (organization_id IS NOT DISTINCT FROM (SELECT current_organization()))"
    )
