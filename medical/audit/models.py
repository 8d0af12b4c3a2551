"""The table of the trail."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform.db import Base
from medical.platform.ids import new_id


class AuditEvent(Base):
    """One patient (or none) touched by one request; the application's role may insert and read, nothing else."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_organization_id_occurred_at", "organization_id", "occurred_at"),
        Index(
            "ix_audit_event_organization_id_patient_id_occurred_at",
            "organization_id",
            "patient_id",
            "occurred_at",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    organization_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("organization.id"),
        comment="null: nobody's, such as a sign-in to an account that does not exist",
    )
    occurred_at: Mapped[datetime]
    actor_id: Mapped[UUID | None]
    actor_roles: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    session_id: Mapped[UUID | None]
    action: Mapped[str]
    outcome: Mapped[str] = mapped_column(comment="success, refused or denied")
    code: Mapped[str | None] = mapped_column(comment="code of the refusal")
    patient_id: Mapped[UUID | None]
    entity_type: Mapped[str | None]
    entity_id: Mapped[UUID | None]
    request_id: Mapped[str | None]
    source: Mapped[str | None] = mapped_column(comment="network address of the caller")
