"""Patients who wait for a time, and what they were offered."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform.db import Base, Tenant, same_organization, tenant_key


class Waiting(StrEnum):
    """The states of an entry of the waitlist."""

    WAITING = "waiting"
    BOOKED = "booked"
    WITHDRAWN = "withdrawn"


class Reply(StrEnum):
    """What became of an offer; one that is open counts until it expires."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"


class WaitlistEntry(Tenant, Base):
    """A patient waits for a time of a type, with some clinicians or any, that starts in [from, before)."""

    __tablename__ = "waitlist_entry"
    __table_args__ = (
        tenant_key("waitlist_entry"),
        same_organization("waitlist_entry", "patient_id", "patient"),
        same_organization("waitlist_entry", "appointment_type_id", "appointment_type"),
        CheckConstraint("starts_before > starts_from", name="times"),
        CheckConstraint("status IN ('waiting', 'booked', 'withdrawn')", name="status"),
        Index(
            "uq_waitlist_entry_patient_id_appointment_type_id",
            "patient_id",
            "appointment_type_id",
            unique=True,
            postgresql_where=text("status = 'waiting'"),
        ),
        Index("ix_waitlist_entry_organization_id_created_at", "organization_id", "created_at", "id"),
    )

    patient_id: Mapped[UUID]
    appointment_type_id: Mapped[UUID]
    clinician_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid), comment="null: any")
    starts_from: Mapped[datetime]
    starts_before: Mapped[datetime]
    status: Mapped[str] = mapped_column(default=Waiting.WAITING)
    created_by: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(default=1)
    if TYPE_CHECKING:
        offer: "WaitlistOffer | None"
    else:
        offer = None
        """The open offer; set by who reads the entry."""

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class WaitlistOffer(Tenant, Base):
    """A time that is kept for whoever waits, until the deadline."""

    __tablename__ = "waitlist_offer"
    __table_args__ = (
        same_organization("waitlist_offer", "entry_id", "waitlist_entry"),
        same_organization("waitlist_offer", "clinician_id", "clinician"),
        CheckConstraint("end_at > start_at", name="times"),
        CheckConstraint("reply IN ('open', 'accepted', 'declined', 'expired')", name="reply"),
        Index("uq_waitlist_offer_entry_id", "entry_id", unique=True, postgresql_where=text("reply = 'open'")),
        Index("ix_waitlist_offer_entry_id_start_at", "entry_id", "start_at"),
        Index("ix_waitlist_offer_expires_at", "organization_id", "expires_at", postgresql_where=text("reply = 'open'")),
    )

    entry_id: Mapped[UUID]
    hold_id: Mapped[UUID] = mapped_column(comment="keeps the time until the deadline")
    clinician_id: Mapped[UUID]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    reply: Mapped[str] = mapped_column(default=Reply.OPEN)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
