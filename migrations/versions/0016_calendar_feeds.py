"""Calendar feeds.

A new table; nothing that is there is locked, and the previous release runs on it.
Row-level security and grants are written by hand: autogenerate does not see them.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard, guard_sight, same_organization

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

MADE_BY_ONESELF = "(SELECT unbound()) OR created_by = (SELECT caller_id()) OR (SELECT has_role(caller_id(), 'admin'))"


def upgrade() -> None:
    """Make the table. Whose feed a secret opens is not known before it is looked up, as with an email at sign-in."""
    op.create_table(
        "calendar_feed",
        sa.Column("clinician_id", sa.Uuid()),
        sa.Column("room_id", sa.Uuid()),
        sa.Column("device_id", sa.Uuid()),
        sa.Column("patient_id", sa.Uuid()),
        sa.Column("details", sa.Boolean(), nullable=False, comment="more than that somebody is busy"),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False, comment="SHA-256; the secret is kept nowhere"),
        sa.Column("created_by", sa.Uuid(), nullable=False, comment="it shows what they may see, while they may"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), comment="to the hour"),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint(
            "num_nonnulls(clinician_id, room_id, device_id, patient_id) = 1", name=op.f("ck_calendar_feed_of_one")
        ),
        *same_organization(
            "calendar_feed",
            clinician_id="clinician",
            room_id="room",
            device_id="device",
            patient_id="patient",
            created_by="users",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_calendar_feed_organization_id"),
        sa.PrimaryKeyConstraint("id", name="pk_calendar_feed"),
        sa.UniqueConstraint("secret_digest", name="uq_calendar_feed_secret_digest"),
    )
    op.create_index("ix_calendar_feed_organization_id_created_by", "calendar_feed", ["organization_id", "created_by"])
    guard("calendar_feed", "SELECT, INSERT, DELETE, UPDATE (last_used_at)")
    guard_sight("calendar_feed", MADE_BY_ONESELF)
    op.execute(
        "CREATE POLICY subscription ON calendar_feed FOR SELECT"
        " USING (secret_digest = (SELECT decode(nullif(current_setting('app.feed_digest', true), ''), 'hex')))"
    )


def downgrade() -> None:
    """Remove it; who subscribed gets nothing more."""
    op.drop_table("calendar_feed")
