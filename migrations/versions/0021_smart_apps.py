"""Apps that act for users (SMART App Launch), and the codes by which they get their tokens.

New tables; new columns of `auth_session`, which are null in the rows there are. Takes a lock on `auth_session`,
`users`, `patient` and `client_assertion` for a moment each, for columns and foreign keys. The previous release runs on
it: it takes scopes of SMART for permissions that nobody has. Row-level security and grants are written by hand:
autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, same_organization

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

WORDS = postgresql.ARRAY(sa.Text())
KEYS = {"app_id": "smart_app", "patient_id": "patient"}
COMMENTS = {
    ("auth_session", "scopes"): (
        "permissions the sign-in is narrowed to; null: whatever the roles allow",
        "permissions, or SMART scopes, it is narrowed to; null: whatever the roles allow",
    ),
    ("service_client", "scopes"): (
        "permissions, the most it may ask",
        "permissions, or SMART scopes of the system: the most it may ask",
    ),
}


def upgrade() -> None:
    """Make the tables, and say in sign-ins which app acts."""
    op.create_table(
        "smart_app",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("redirect_uris", WORDS, nullable=False, comment="where users are sent back to, and nowhere else"),
        sa.Column("launch_uri", sa.Text(), nullable=True, comment="where the app is opened from the clinic's program"),
        sa.Column("scopes", WORDS, nullable=False, comment="of SMART: the most it may ask"),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=True, comment="SHA-256 of the secret"),
        sa.Column("jwks", postgresql.JSONB(), nullable=True, comment="its public keys (RFC 7517), instead of a secret"),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("secret_digest IS NULL OR jwks IS NULL", name=op.f("ck_smart_app_secret_or_keys")),
        *same_organization("smart_app", created_by="users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_smart_app_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_smart_app"),
        sa.UniqueConstraint("organization_id", "id", name="uq_smart_app_organization_id_id"),
    )
    guard("smart_app", "SELECT, INSERT, UPDATE")
    op.execute(
        "CREATE POLICY sign_in ON smart_app FOR SELECT"
        " USING (id = (SELECT CAST(nullif(current_setting('app.smart_app', true), '') AS uuid)))"
    )
    op.add_column(
        "auth_session",
        sa.Column("app_id", sa.Uuid(), comment="the app through which the user acts; null: they themselves"),
    )
    op.add_column("auth_session", sa.Column("patient_id", sa.Uuid(), comment="whom the app was launched for"))
    for column, target in KEYS.items():
        op.create_foreign_key(
            f"fk_auth_session_{column}_{target}",
            "auth_session",
            target,
            ["organization_id", column],
            ["organization_id", "id"],
        )
    op.create_index(
        "ix_auth_session_app_id", "auth_session", ["app_id"], postgresql_where=sa.text("app_id IS NOT NULL")
    )
    for (table, column), (before, after) in COMMENTS.items():
        op.alter_column(table, column, comment=after, existing_comment=before, existing_type=WORDS)
    op.drop_constraint("fk_client_assertion_client_id_service_client", "client_assertion", type_="foreignkey")
    op.create_table(
        "authorization_code",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the code"),
        sa.Column("app_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scopes", WORDS, nullable=False, comment="what the user let the app do"),
        sa.Column("code_challenge", sa.Text(), nullable=False, comment="S256 (RFC 7636)"),
        sa.Column("patient_id", sa.Uuid(), nullable=True, comment="whom the app was launched for"),
        sa.Column("second_factor", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True, comment="the sign-in that came of it; null: not used yet"),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        *same_organization("authorization_code", app_id="smart_app", user_id="users", patient_id="patient"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_authorization_code_organization_id"),
        sa.PrimaryKeyConstraint("digest", name="pk_authorization_code"),
    )
    op.create_index("ix_authorization_code_expires_at", "authorization_code", ["expires_at"])
    guard("authorization_code", "SELECT, INSERT, UPDATE (session_id), DELETE")


def downgrade() -> None:
    """Remove them: what users let apps do is over, and so are assertions that apps used."""
    op.drop_table("authorization_code")
    op.execute(
        "DELETE FROM client_assertion a WHERE NOT EXISTS (SELECT FROM service_client c WHERE c.id = a.client_id)"
    )
    op.create_foreign_key(
        "fk_client_assertion_client_id_service_client",
        "client_assertion",
        "service_client",
        ["organization_id", "client_id"],
        ["organization_id", "id"],
    )
    for (table, column), (before, after) in COMMENTS.items():
        op.alter_column(table, column, comment=before, existing_comment=after, existing_type=WORDS)
    op.drop_index("ix_auth_session_app_id", table_name="auth_session")
    op.execute("UPDATE auth_session SET ended_at = now(), end_reason = 'apps are gone' WHERE app_id IS NOT NULL")
    for column, target in KEYS.items():
        op.drop_constraint(f"fk_auth_session_{column}_{target}", "auth_session", type_="foreignkey")
        op.drop_column("auth_session", column)
    op.drop_table("smart_app")
