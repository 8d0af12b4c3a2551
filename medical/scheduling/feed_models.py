"""Calendar feeds: whose times a calendar program reads by a secret address."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform.db import Base, Tenant, same_organization


class CalendarFeed(Tenant, Base):
    """Whose times may be read by whoever has the secret, for as long as its maker may see them."""

    __tablename__ = "calendar_feed"
    __table_args__ = (
        same_organization("calendar_feed", "clinician_id", "clinician"),
        same_organization("calendar_feed", "room_id", "room"),
        same_organization("calendar_feed", "device_id", "device"),
        same_organization("calendar_feed", "patient_id", "patient"),
        same_organization("calendar_feed", "created_by", "users"),
        CheckConstraint("num_nonnulls(clinician_id, room_id, device_id, patient_id) = 1", name="of_one"),
        UniqueConstraint("secret_digest", name="uq_calendar_feed_secret_digest"),
        Index("ix_calendar_feed_organization_id_created_by", "organization_id", "created_by"),
    )

    clinician_id: Mapped[UUID | None]
    room_id: Mapped[UUID | None]
    device_id: Mapped[UUID | None]
    patient_id: Mapped[UUID | None]
    details: Mapped[bool] = mapped_column(comment="more than that somebody is busy")
    secret_digest: Mapped[bytes] = mapped_column(comment="SHA-256; the secret is kept nowhere")
    created_by: Mapped[UUID] = mapped_column(comment="it shows what they may see, while they may")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None] = mapped_column(comment="to the hour")
