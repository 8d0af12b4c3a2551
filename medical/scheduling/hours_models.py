"""What opens and closes a diary beside weekly hours, and the open windows that all of it comes to."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, Uuid, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from medical.people.models import ZONE_KNOWN
from medical.platform.db import Base, Owned, Tenant, same_organization


class AvailabilityException(Tenant, Base):
    """A one-off opening of a clinician's diary, or time off."""

    __tablename__ = "availability_exception"
    __table_args__ = (
        same_organization("availability_exception", "clinician_id", "clinician"),
        same_organization("availability_exception", "location_id", "location"),
        CheckConstraint("kind IN ('open', 'closed')", name="kind"),
        CheckConstraint("end_at > start_at", name="times"),
        CheckConstraint("kind = 'closed' OR end_at <= start_at + interval '24 hours'", name="opening"),
        CheckConstraint("kind = 'open' OR (location_id IS NULL AND appointment_type_ids IS NULL)", name="closing"),
        CheckConstraint(ZONE_KNOWN, name="time_zone"),
        Index("ix_availability_exception_clinician_id", "clinician_id", "kind", "start_at"),
    )

    clinician_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(comment="open: a one-off opening; closed: time off")
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    local_day: Mapped[date] = mapped_column(comment="on which it begins, where the clinician is")
    time_zone: Mapped[str]
    location_id: Mapped[UUID | None]
    appointment_type_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid), comment="null: every type")
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[UUID | None]


class HolidayCalendar(Owned, Base):
    """Whose national holidays a site keeps."""

    __tablename__ = "holiday_calendar"
    __table_args__ = (same_organization("holiday_calendar", "location_id", "location"),)

    location_id: Mapped[UUID] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(comment="ISO 3166-1 alpha-2")
    subdivision: Mapped[str | None] = mapped_column(comment="the latter part of ISO 3166-2")


class Holiday(Tenant, Base):
    """A day on which nobody's hours at a site begin, or on which they do although it is a holiday."""

    __tablename__ = "holiday"
    __table_args__ = (
        same_organization("holiday", "location_id", "location"),
        CheckConstraint("origin IN ('own', 'national')", name="origin"),
        UniqueConstraint("location_id", "day", "origin", name="uq_holiday_location_id_day_origin"),
    )

    location_id: Mapped[UUID]
    day: Mapped[date]
    name: Mapped[str]
    origin: Mapped[str] = mapped_column(comment="own counts before national")
    closed: Mapped[bool] = mapped_column(comment="false: the site works although it is a holiday")


class OpenWindow(Owned, Base):
    """A time in which a clinician can be booked, less what is booked; derived, see `windows.py`."""

    __tablename__ = "open_window"
    __table_args__ = (
        same_organization("open_window", "clinician_id", "clinician"),
        CheckConstraint("end_at > start_at", name="times"),
    )

    clinician_id: Mapped[UUID] = mapped_column(primary_key=True)
    start_at: Mapped[datetime] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(
        primary_key=True, comment="the weekly hours or one-off opening it comes from"
    )
    local_day: Mapped[date] = mapped_column(primary_key=True)
    end_at: Mapped[datetime]
    grid_at: Mapped[datetime] = mapped_column(
        comment="where possible starts are counted from: the start of the opening before time off was cut out"
    )
    location_id: Mapped[UUID | None]
    appointment_type_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    time_zone: Mapped[str]


class Upkeep(Base):
    """That an organisation's open windows were looked after; of the installation, which has to find them all."""

    __tablename__ = "upkeep"

    id: Mapped[UUID] = mapped_column(ForeignKey("organization.id"), primary_key=True, comment="the organisation's")
    kept_on: Mapped[date | None] = mapped_column(comment="when its open windows were last looked after")
