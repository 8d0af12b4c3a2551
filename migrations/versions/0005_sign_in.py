"""Second factors, their recovery codes, and the throttle of sign-in.

Makes new tables only; locks `users` and `organization` for a moment each, for the foreign keys. The
previous release runs on it, and knows nothing of second factors.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and their guards."""
    op.create_table(
        "otp_credential",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="encrypted under SECRET_KEY"),
        sa.Column(
            "confirmed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null: enrolment has begun, nothing demands it",
        ),
        sa.Column("last_step", sa.BigInteger(), nullable=False, comment="the latest step whose code was used"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_otp_credential_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_otp_credential_organization_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_otp_credential"),
    )
    op.create_table(
        "recovery_code",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="keyed SHA-256 of the code"),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["users.organization_id", "users.id"],
            name="fk_recovery_code_user_id_users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_recovery_code_organization_id"),
        sa.PrimaryKeyConstraint("user_id", "digest", name="pk_recovery_code"),
    )
    op.create_table(
        "sign_in_throttle",
        sa.Column("key", sa.LargeBinary(), nullable=False, comment="of an account, a network, or both"),
        sa.Column("failures", sa.Double(), nullable=False, comment="wrong tries, fewer as time passes"),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "forget_at", sa.DateTime(timezone=True), nullable=False, comment="when the row means nothing any more"
        ),
        sa.PrimaryKeyConstraint("key", name="pk_sign_in_throttle"),
    )
    op.create_index("ix_sign_in_throttle_forget_at", "sign_in_throttle", ["forget_at"], unique=False)
    guard("otp_credential", "SELECT, INSERT, UPDATE, DELETE")
    guard("recovery_code", "SELECT, INSERT, DELETE")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in_throttle TO medical_app")


def downgrade() -> None:
    """Remove the tables: every second factor is gone."""
    op.drop_table("sign_in_throttle")
    op.drop_table("recovery_code")
    op.drop_table("otp_credential")
