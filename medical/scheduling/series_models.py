"""Series: appointments of one patient that recur."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, false, func
from sqlalchemy.orm import Mapped, mapped_column

from medical.people.models import ZONE_KNOWN
from medical.platform.db import Base, Tenant, same_organization, tenant_key


class OnConflict(StrEnum):
    """What becomes of a series some of whose occurrences cannot be booked."""

    FAIL = "fail"
    SKIP = "skip"
    PROPOSE = "propose"


class Series(Tenant, Base):
    """How the appointments that belong to it recur; which they are, they say themselves."""

    __tablename__ = "appointment_series"
    __table_args__ = (
        tenant_key("appointment_series"),
        same_organization("appointment_series", "patient_id", "patient"),
        same_organization("appointment_series", "clinician_id", "clinician"),
        same_organization("appointment_series", "appointment_type_id", "appointment_type"),
        CheckConstraint("frequency IN ('daily', 'weekly', 'monthly')", name="frequency"),
        CheckConstraint('"interval" BETWEEN 1 AND 52', name="interval"),
        CheckConstraint("occurrences BETWEEN 2 AND 104", name="occurrences"),
        CheckConstraint(ZONE_KNOWN, name="time_zone"),
        Index("ix_appointment_series_patient_id", "patient_id"),
    )

    patient_id: Mapped[UUID]
    clinician_id: Mapped[UUID] = mapped_column(comment="with whom the last of them are")
    appointment_type_id: Mapped[UUID]
    time_zone: Mapped[str] = mapped_column(comment="by whose wall clock they recur")
    frequency: Mapped[str]
    interval: Mapped[int]
    occurrences: Mapped[int] = mapped_column(comment="wanted; those left out are counted")
    sensitive: Mapped[bool] = mapped_column(server_default=false(), default=False, comment="not for proxies")
    created_by: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form
