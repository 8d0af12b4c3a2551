"""What a sign-in is good for: how fresh it is, its second factor, its scopes, when it was last used.

Adds columns with constant defaults, which rewrites nothing; takes a lock on auth_session for a moment.
The previous release runs on it: what it does not write has a default.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; sign-ins that exist were given their password when they began."""
    op.add_column(
        "auth_session",
        sa.Column(
            "authenticated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when password, and second factor where there is one, were last given",
        ),
    )
    op.add_column(
        "auth_session",
        sa.Column("second_factor", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.add_column(
        "auth_session",
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="permissions the sign-in is narrowed to; null: whatever the roles allow",
        ),
    )
    op.execute("UPDATE auth_session SET authenticated_at = created_at")


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("auth_session", "scopes")
    op.drop_column("auth_session", "second_factor")
    op.drop_column("auth_session", "authenticated_at")
