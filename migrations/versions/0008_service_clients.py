"""Service clients, and the signed assertions that they used.

Makes new tables only; locks `users` and `organization` for a moment each, for the foreign keys. The
previous release runs on it, and knows nothing of clients: to it they are accounts that cannot sign in.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medical.platform.tenancy import guard, same_organization

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and their guards."""
    op.create_table(
        "service_client",
        sa.Column("id", sa.Uuid(), nullable=False, comment="the client_id; a user's, in whose name the client works"),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False, comment="permissions, the most it may ask"),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=True, comment="SHA-256 of the secret"),
        sa.Column("jwks", postgresql.JSONB(), nullable=True, comment="its public keys (RFC 7517), instead of a secret"),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.CheckConstraint("(secret_digest IS NULL) <> (jwks IS NULL)", name=op.f("ck_service_client_secret_or_keys")),
        *same_organization("service_client", id="users", created_by="users"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_service_client_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_service_client"),
        sa.UniqueConstraint("organization_id", "id", name="uq_service_client_organization_id_id"),
    )
    op.create_table(
        "client_assertion",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the jti"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        *same_organization("client_assertion", client_id="service_client"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_client_assertion_organization_id"),
        sa.PrimaryKeyConstraint("client_id", "digest", name="pk_client_assertion"),
    )
    op.create_index("ix_client_assertion_expires_at", "client_assertion", ["expires_at"], unique=False)
    guard("service_client", "SELECT, INSERT, UPDATE")
    guard("client_assertion", "SELECT, INSERT, UPDATE, DELETE")


def downgrade() -> None:
    """Remove the tables: every client is gone; its account stays, and cannot sign in."""
    op.drop_table("client_assertion")
    op.drop_table("service_client")
