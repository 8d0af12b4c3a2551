"""When a sign-in was last used, that those long over are removed, and when a signing key was retired.

Adds columns, one with a default that is computed once, which rewrites nothing; takes a lock on auth_session
and signing_key for a moment. A retired key loses its private half, since it never signs again.
The previous release runs on it: what it does not write has a default, and it never reads a retired private half.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; sign-ins that exist count as used now."""
    op.add_column(
        "auth_session",
        sa.Column(
            "last_used_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="the last call, to the minute",
        ),
    )
    op.add_column("signing_key", sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column(
        "signing_key",
        "private_key",
        nullable=True,
        comment="Ed25519, encrypted under SECRET_KEY; null: retired",
        existing_type=sa.LargeBinary(),
        existing_comment="Ed25519, encrypted under SECRET_KEY",
    )
    op.execute("UPDATE signing_key SET retired_at = now(), private_key = NULL WHERE status = 'retired'")
    op.create_check_constraint(
        op.f("ck_signing_key_retired"), "signing_key", "(status = 'retired') = (retired_at IS NOT NULL)"
    )
    op.execute("GRANT DELETE ON auth_session, refresh_token TO medical_app")
    op.create_index(
        "uq_signing_key_next", "signing_key", ["status"], unique=True, postgresql_where=sa.text("status = 'next'")
    )


def downgrade() -> None:
    """Drop them; keys that have no private half are gone, and with them the tokens they verify."""
    op.drop_index("uq_signing_key_next", table_name="signing_key")
    op.execute("REVOKE DELETE ON auth_session, refresh_token FROM medical_app")
    op.drop_constraint(op.f("ck_signing_key_retired"), "signing_key", type_="check")
    op.execute("DELETE FROM signing_key WHERE private_key IS NULL")
    op.alter_column(
        "signing_key",
        "private_key",
        nullable=False,
        comment="Ed25519, encrypted under SECRET_KEY",
        existing_type=sa.LargeBinary(),
        existing_comment="Ed25519, encrypted under SECRET_KEY; null: retired",
    )
    op.drop_column("signing_key", "retired_at")
    op.drop_column("auth_session", "last_used_at")
