"""Appointment types, availabilities, appointments, and the claims on people's time behind them."""

from datetime import date, datetime, time
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    Uuid,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TEXT, TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column, query_expression, relationship

from medical.identity.models import User
from medical.people.models import ZONE_KNOWN
from medical.platform.db import Base, Owned, Tenant, same_organization, tenant_key
from medical.platform.ids import new_id


class Status(StrEnum):
    """The states of an appointment (FHIR's, in the spelling of our contract).

    What is ``held`` is a hold, not an appointment yet.
    """

    HELD = "held"
    REQUESTED = "requested"
    BOOKED = "booked"
    ARRIVED = "arrived"
    CHECKED_IN = "checked_in"
    IN_PROGRESS = "in_progress"
    FULFILLED = "fulfilled"
    NO_SHOW = "no_show"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered_in_error"


STORED = [status for status in Status if status is not Status.HELD]
"""Those that an appointment can have."""


class AppointmentType(Tenant, Base):
    """A kind of visit: how long, on which grid, how soon and how far ahead."""

    __tablename__ = "appointment_type"
    __table_args__ = (
        tenant_key("appointment_type"),
        UniqueConstraint("organization_id", "name", name="uq_appointment_type_organization_id_name"),
        CheckConstraint("duration_minutes BETWEEN 1 AND 1440", name="duration_minutes"),
        CheckConstraint("grid_minutes BETWEEN 1 AND 1440", name="grid_minutes"),
        CheckConstraint("min_notice_minutes >= 0", name="min_notice_minutes"),
        CheckConstraint("horizon_days BETWEEN 1 AND 550", name="horizon_days"),
        CheckConstraint("cancellation_cutoff_minutes >= 0", name="cancellation_cutoff_minutes"),
        CheckConstraint("max_per_day >= 1", name="max_per_day"),
        CheckConstraint("max_per_patient >= 1", name="max_per_patient"),
        CheckConstraint(
            "1 <= ALL (other_durations_minutes) AND 1440 >= ALL (other_durations_minutes)",
            name="other_durations_minutes",
        ),
        CheckConstraint("group_capacity BETWEEN 2 AND 1000", name="group_capacity"),
        CheckConstraint("buffer_before_minutes BETWEEN 0 AND 240", name="buffer_before_minutes"),
        CheckConstraint("buffer_after_minutes BETWEEN 0 AND 240", name="buffer_after_minutes"),
    )

    name: Mapped[str]
    duration_minutes: Mapped[int]
    grid_minutes: Mapped[int] = mapped_column(comment="starts lie this far apart from the start of each opening")
    min_notice_minutes: Mapped[int]
    horizon_days: Mapped[int] = mapped_column(comment="counted in the clinician's zone")
    cancellation_cutoff_minutes: Mapped[int] = mapped_column(
        server_default="0", default=0, comment="nearer than this to the start, a cancellation is late"
    )
    needs_approval: Mapped[bool] = mapped_column(server_default=false(), default=False)
    max_per_day: Mapped[int | None] = mapped_column(comment="of one clinician on one local day; null: any number")
    max_per_patient: Mapped[int | None] = mapped_column(comment="that one patient has ahead; null: any number")
    other_durations_minutes: Mapped[list[int]] = mapped_column(
        ARRAY(Integer), default=list, server_default="{}", comment="that it may last instead"
    )
    group_capacity: Mapped[int | None] = mapped_column(comment="so many patients come to one visit; null: one alone")
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    buffer_before_minutes: Mapped[int] = mapped_column(default=0, server_default="0")
    buffer_after_minutes: Mapped[int] = mapped_column(default=0, server_default="0")
    needs_room: Mapped[bool] = mapped_column(default=False, server_default=false())
    needs_device_kinds: Mapped[list[str]] = mapped_column(ARRAY(TEXT), default=list, server_default="{}")

    @property
    def needs_things(self) -> bool:
        """Whether it needs a room or a device."""
        return self.needs_room or bool(self.needs_device_kinds)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Availability(Tenant, Base):
    """Weekly hours of a clinician in local wall time; instants are worked out for each day."""

    __tablename__ = "availability"
    __table_args__ = (
        tenant_key("availability"),
        same_organization("availability", "clinician_id", "clinician"),
        same_organization("availability", "location_id", "location"),
        Index("ix_availability_clinician_id", "clinician_id"),
        CheckConstraint("cardinality(weekdays) > 0 AND weekdays <@ '{1,2,3,4,5,6,7}'::smallint[]", name="weekdays"),
        CheckConstraint("valid_until >= valid_from", name="valid"),
        CheckConstraint("every_weeks BETWEEN 1 AND 52", name="every_weeks"),
        CheckConstraint(
            "cardinality(weeks_of_month) > 0 AND weeks_of_month <@ '{1,2,3,4,5,-1}'::smallint[]",
            name="weeks_of_month",
        ),
        CheckConstraint(ZONE_KNOWN, name="time_zone"),
    )

    clinician_id: Mapped[UUID]
    weekdays: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="ISO, Monday is 1")
    start_time: Mapped[time]
    end_time: Mapped[time] = mapped_column(comment="at or before start_time: of the next day")
    time_zone: Mapped[str]
    location_id: Mapped[UUID | None]
    valid_from: Mapped[date | None]
    valid_until: Mapped[date | None]
    every_weeks: Mapped[int] = mapped_column(SmallInteger)
    first_week_on: Mapped[date] = mapped_column(comment="Monday of a week in which it holds, for every_weeks")
    appointment_type_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid), comment="null: every type")
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    weeks_of_month: Mapped[list[int] | None] = mapped_column(
        ARRAY(SmallInteger), comment="1 the first such weekday of its month, -1 the last; null: every"
    )

    clinician: Mapped[User] = relationship(
        "User",
        back_populates="availabilities",
        lazy="raise",
        primaryjoin="User.id == foreign(Availability.clinician_id)",
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Appointment(Tenant, Base):
    """A patient, a clinician, a time. Never deleted; each change leaves an event (a trigger writes it).

    Who booked it, since when it gives sight of the patient, and when it was released: another trigger
    writes that, whoever changes the row (migration 0006).
    """

    __tablename__ = "appointment"
    __table_args__ = (
        tenant_key("appointment"),
        same_organization("appointment", "patient_id", "patient"),
        same_organization("appointment", "clinician_id", "clinician"),
        same_organization("appointment", "appointment_type_id", "appointment_type"),
        same_organization("appointment", "location_id", "location"),
        same_organization("appointment", "session_id", "group_session"),
        same_organization("appointment", "series_id", "appointment_series"),
        CheckConstraint("(series_id IS NULL) = (occurrence IS NULL)", name="series"),
        CheckConstraint("end_at > start_at", name="times"),
        CheckConstraint(f"status IN ({', '.join(repr(str(status)) for status in STORED)})", name="status"),
        Index("ix_appointment_organization_id_start_at", "organization_id", "start_at", "id"),
        Index("ix_appointment_clinician_id_start_at", "clinician_id", "start_at"),
        Index("ix_appointment_patient_id_start_at", "patient_id", "start_at"),
        Index("ix_appointment_created_by", "created_by"),
        Index(
            "uq_appointment_series_id_occurrence",
            "series_id",
            "occurrence",
            unique=True,
            postgresql_where=text("series_id IS NOT NULL"),
        ),
    )

    patient_id: Mapped[UUID]
    clinician_id: Mapped[UUID]
    appointment_type_id: Mapped[UUID]
    location_id: Mapped[UUID | None]
    status: Mapped[str] = mapped_column(default=Status.BOOKED)
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    time_zone: Mapped[str] = mapped_column(comment="zone of the opening it was booked in")
    local_start: Mapped[datetime] = mapped_column(
        DateTime(timezone=False),
        comment="wall-clock time meant at booking, so that a later change of the zone's rules shows",
    )
    reason: Mapped[str | None]
    status_reason: Mapped[str | None] = mapped_column(comment="why it was cancelled, moved or overbooked")
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_by: Mapped[UUID | None] = mapped_column(comment="who booked it")
    care_from: Mapped[datetime | None] = mapped_column(
        comment="since when it gives its clinician sight of the patient; null: they booked it themselves"
    )
    sensitive: Mapped[bool] = mapped_column(server_default=false(), default=False, comment="not for proxies")
    released_at: Mapped[datetime | None] = mapped_column(comment="when it was cancelled or missed")
    cancelled_late: Mapped[bool] = mapped_column(
        server_default=false(), default=False, comment="after the cut-off of its type"
    )
    queue_number: Mapped[int | None] = mapped_column(comment="drawn at check-in, for its place and local day")
    overbooked: Mapped[bool] = mapped_column(
        server_default=false(), default=False, comment="beside another one of the clinician's, on purpose"
    )
    session_id: Mapped[UUID | None] = mapped_column(comment="of a group")
    series_id: Mapped[UUID | None]
    occurrence: Mapped[int | None] = mapped_column(comment="its number in the series")
    reason_seen: Mapped[bool] = query_expression()
    """Whether the caller may know why the patient comes."""
    with_clinician_ids: Mapped[list[UUID]] = query_expression()
    """The other clinicians who take part."""

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class AppointmentParticipant(Owned, Base):
    """Another clinician who takes part in an appointment; that gives them sight of the patient (a trigger notes it)."""

    __tablename__ = "appointment_participant"
    __table_args__ = (
        same_organization("appointment_participant", "appointment_id", "appointment"),
        same_organization("appointment_participant", "clinician_id", "clinician"),
        Index("ix_appointment_participant_clinician_id", "clinician_id"),
    )

    appointment_id: Mapped[UUID] = mapped_column(primary_key=True)
    clinician_id: Mapped[UUID] = mapped_column(primary_key=True)
    care_from: Mapped[datetime | None] = mapped_column(
        comment="since when it gives them sight of the patient; null: they booked it themselves"
    )


class AppointmentEvent(Owned, Base):
    """What an appointment became, by whom and why; written by a trigger, never changed."""

    __tablename__ = "appointment_event"
    __table_args__ = (same_organization("appointment_event", "appointment_id", "appointment"),)

    appointment_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    clinician_id: Mapped[UUID]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    reason: Mapped[str | None]
    actor_id: Mapped[UUID | None]
    request_id: Mapped[str | None]
    occurred_at: Mapped[datetime]
    reason_seen = False
    """Whether the caller may know why; set by who reads the history."""


class GroupSession(Tenant, Base):
    """A visit to which several patients come; it has the clinician's time while anybody is booked."""

    __tablename__ = "group_session"
    __table_args__ = (
        tenant_key("group_session"),
        same_organization("group_session", "clinician_id", "clinician"),
        same_organization("group_session", "appointment_type_id", "appointment_type"),
        same_organization("group_session", "location_id", "location"),
        UniqueConstraint(
            "clinician_id",
            "start_at",
            "appointment_type_id",
            name="uq_group_session_clinician_id_start_at_appointment_type_id",
        ),
        CheckConstraint("end_at > start_at", name="times"),
        CheckConstraint("booked BETWEEN 0 AND capacity", name="booked"),
    )

    clinician_id: Mapped[UUID]
    appointment_type_id: Mapped[UUID]
    location_id: Mapped[UUID | None]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    time_zone: Mapped[str]
    capacity: Mapped[int]
    booked: Mapped[int]


class QueueDay(Tenant, Base):
    """The last queue number drawn at a place on a local day."""

    __tablename__ = "queue_day"
    __table_args__ = (
        same_organization("queue_day", "location_id", "location"),
        UniqueConstraint(
            "organization_id",
            "location_id",
            "day",
            name="uq_queue_day_organization_id_location_id_day",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("last_number >= 1", name="last_number"),
    )

    location_id: Mapped[UUID | None]
    day: Mapped[date]
    last_number: Mapped[int]


class Hold(Tenant, Base):
    """A time that nobody else can book until it expires; never changed, only given up."""

    __tablename__ = "hold"
    __table_args__ = (
        tenant_key("hold"),
        same_organization("hold", "clinician_id", "clinician"),
        same_organization("hold", "appointment_type_id", "appointment_type"),
        CheckConstraint("end_at > start_at", name="times"),
        Index("ix_hold_held_by", "held_by"),
        Index("ix_hold_expires_at", "organization_id", "expires_at"),
    )

    clinician_id: Mapped[UUID]
    appointment_type_id: Mapped[UUID]
    start_at: Mapped[datetime]
    end_at: Mapped[datetime]
    held_by: Mapped[UUID | None] = mapped_column(comment="the user who may book it; null: an offer's")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class Allocation(Owned, Base):
    """A live claim on somebody's time, or on a thing's. PostgreSQL lets no two claims of one overlap.

    Of a pool it lets as many overlap as its capacity says (a trigger, migration 0013).

    One that a hold made counts until it expires; it may stand there a while longer, until somebody wants the time.
    """

    __tablename__ = "allocation"
    __table_args__ = (
        same_organization("allocation", "appointment_id", "appointment", deferrable=True, initially="DEFERRED"),
        same_organization("allocation", "hold_id", "hold", ondelete="CASCADE"),
        same_organization("allocation", "session_id", "group_session", deferrable=True, initially="DEFERRED"),
        ExcludeConstraint(
            ("bookable_id", "="),
            ("during", "&&"),
            name="ex_allocation_bookable_id_during",
            using="gist",
            where=text("kind <> 'pool'"),
        ),
        CheckConstraint("kind IN ('clinician', 'patient', 'room', 'device', 'pool', 'overbook')", name="kind"),
        CheckConstraint("end_at > start_at", name="times"),
        CheckConstraint("num_nonnulls(appointment_id, hold_id, session_id) = 1", name="claimant"),
        CheckConstraint("(hold_id IS NULL) = (expires_at IS NULL)", name="expires_at"),
        Index("ix_allocation_appointment_id", "appointment_id"),
        Index("ix_allocation_hold_id", "hold_id"),
        Index("ix_allocation_session_id", "session_id"),
        Index("ix_allocation_bookable_id_start_at", "bookable_id", "start_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    bookable_id: Mapped[UUID] = mapped_column(comment="whose time: a clinician's, a patient's or a lane's id")
    kind: Mapped[str]
    start_at: Mapped[datetime] = mapped_column(
        comment="beside the range: range operators, not leakproof, use no index under row-level security"
    )
    end_at: Mapped[datetime]
    during: Mapped[Range[datetime]] = mapped_column(TSTZRANGE, Computed("tstzrange(start_at, end_at)", persisted=True))
    appointment_id: Mapped[UUID | None]
    hold_id: Mapped[UUID | None]
    session_id: Mapped[UUID | None]
    expires_at: Mapped[datetime | None] = mapped_column(comment="of a hold")
