"""Versions of records by their time.

Indexes alone: while they are built, records cannot be written, for which they hold a lock; reading goes on, and the
previous release runs on it.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the indexes."""
    op.create_index("ix_resource_organization_id_updated_at", "resource", ["organization_id", "updated_at", "id"])
    op.create_index(
        "ix_resource_version_organization_id_updated_at", "resource_version", ["organization_id", "updated_at"]
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_index("ix_resource_version_organization_id_updated_at", "resource_version")
    op.drop_index("ix_resource_organization_id_updated_at", "resource")
