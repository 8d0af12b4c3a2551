"""Locations, clinicians, patients and their identifiers."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, Index, Sequence, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT, TSTZRANGE, ExcludeConstraint, Range
from sqlalchemy.orm import Mapped, mapped_column, relationship

from medical.identity.models import User
from medical.platform.db import Base, Owned, Tenant, same_organization, tenant_key

ZONE_KNOWN = "(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL"
"""PostgreSQL itself must know the zone (an unknown one raises 22023), whatever Python's table says."""

MRN = Sequence("patient_mrn_seq", metadata=Base.metadata)


class Location(Tenant, Base):
    """A site of the organisation, with the wall clock that hangs there."""

    __tablename__ = "location"
    __table_args__ = (
        tenant_key("location"),
        UniqueConstraint("organization_id", "name", name="uq_location_organization_id_name"),
        CheckConstraint(ZONE_KNOWN, name="time_zone"),
    )

    name: Mapped[str]
    time_zone: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Room(Tenant, Base):
    """A room of a site in which one visit at a time can be."""

    __tablename__ = "room"
    __table_args__ = (
        tenant_key("room"),
        same_organization("room", "location_id", "location"),
        UniqueConstraint("location_id", "name", name="uq_room_location_id_name"),
    )

    location_id: Mapped[UUID]
    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Device(Tenant, Base):
    """A device of a site, or a pool of like ones; those of one kind are as good as each other."""

    __tablename__ = "device"
    __table_args__ = (
        tenant_key("device"),
        same_organization("device", "location_id", "location"),
        UniqueConstraint("location_id", "name", name="uq_device_location_id_name"),
        CheckConstraint("capacity BETWEEN 1 AND 1000", name="capacity"),
    )

    location_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(comment="what appointment types ask for")
    name: Mapped[str]
    capacity: Mapped[int] = mapped_column(
        default=1,
        server_default="1",
        comment="so many visits can have it at once; more than 1: a pool of like things",
    )
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Clinician(Owned, Base):
    """A user who treats patients; the id is the user's."""

    __tablename__ = "clinician"
    __table_args__ = (
        tenant_key("clinician"),
        same_organization("clinician", "id", "users"),
        same_organization("clinician", "location_id", "location"),
        Index("ix_clinician_organization_id_specialty", "organization_id", "specialty"),
        CheckConstraint(ZONE_KNOWN, name="time_zone"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    specialty: Mapped[str]
    time_zone: Mapped[str]
    location_id: Mapped[UUID | None]
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    user: Mapped[User] = relationship(
        back_populates="clinician", lazy="raise", primaryjoin="User.id == foreign(Clinician.id)"
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class Patient(Tenant, Base):
    """A person who is or may be treated."""

    __tablename__ = "patient"
    __table_args__ = (
        tenant_key("patient"),
        same_organization("patient", "user_id", "users"),
        same_organization("patient", "merged_into", "patient"),
        CheckConstraint("merged_into <> id", name="merged_into"),
        UniqueConstraint("organization_id", "mrn", name="uq_patient_organization_id_mrn"),
        UniqueConstraint("user_id", name="uq_patient_user_id"),
        CheckConstraint("sex IN ('male', 'female', 'other', 'unknown')", name="sex"),
        Index("ix_patient_organization_id_birth_date", "organization_id", "birth_date"),
        Index("ix_patient_organization_id_name", "organization_id", "family_name", "given_name", "id"),
    )

    mrn: Mapped[str] = mapped_column(
        default=text("'P' || lpad(nextval('patient_mrn_seq')::text, 7, '0')"),
        comment="medical record number, the label people use; never a permission",
    )
    given_name: Mapped[str]
    family_name: Mapped[str]
    birth_date: Mapped[date]
    sex: Mapped[str]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    user_id: Mapped[UUID | None] = mapped_column(comment="the patient's own account")
    merged_into: Mapped[UUID | None] = mapped_column(comment="whom the patient turned out to be")
    search_name: Mapped[str] = mapped_column(
        Computed("search_key(given_name || ' ' || family_name)", persisted=True),
        comment="name without case and accents",
    )
    phone_digits: Mapped[str | None] = mapped_column(Computed(r"regexp_replace(phone, '\D', '', 'g')", persisted=True))
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    user: Mapped[User | None] = relationship(
        back_populates="patient", lazy="raise", primaryjoin="User.id == foreign(Patient.user_id)"
    )
    identifiers: Mapped[list["PatientIdentifier"]] = relationship(
        back_populates="patient",
        lazy="raise",
        primaryjoin="Patient.id == foreign(PatientIdentifier.patient_id)",
        order_by="PatientIdentifier.system, PatientIdentifier.value",
        cascade="all, delete-orphan",
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class PatientIdentifier(Tenant, Base):
    """A number somebody else knows the patient by, unique in its system."""

    __tablename__ = "patient_identifier"
    __table_args__ = (
        same_organization("patient_identifier", "patient_id", "patient"),
        UniqueConstraint(
            "organization_id", "system", "value", name="uq_patient_identifier_organization_id_system_value"
        ),
        Index("ix_patient_identifier_patient_id", "patient_id"),
    )

    patient_id: Mapped[UUID]
    system: Mapped[str]
    value: Mapped[str]

    patient: Mapped[Patient] = relationship(
        back_populates="identifiers",
        lazy="raise",
        primaryjoin="Patient.id == foreign(PatientIdentifier.patient_id)",
    )


class PatientMerge(Tenant, Base):
    """That two patients turned out to be one, and what was moved by that, so that it can be undone."""

    __tablename__ = "patient_merge"
    __table_args__ = (
        same_organization("patient_merge", "source_patient_id", "patient"),
        same_organization("patient_merge", "target_patient_id", "patient"),
        same_organization("patient_merge", "merged_by", "users"),
        same_organization("patient_merge", "undone_by", "users"),
        Index("ix_patient_merge_target_patient_id", "target_patient_id"),
        Index("ix_patient_merge_source_patient_id", "source_patient_id"),
    )

    source_patient_id: Mapped[UUID] = mapped_column(comment="who turned out to be somebody else")
    target_patient_id: Mapped[UUID] = mapped_column(comment="who they are")
    reason: Mapped[str]
    moved: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="ids of what was moved, by what it is")
    merged_by: Mapped[UUID]
    merged_at: Mapped[datetime]
    undone_by: Mapped[UUID | None]
    undone_at: Mapped[datetime | None]


class CareRelationship(Tenant, Base):
    """That somebody cares for a patient by assignment or referral; visits say the same by themselves."""

    __tablename__ = "care_relationship"
    __table_args__ = (
        same_organization("care_relationship", "patient_id", "patient"),
        same_organization("care_relationship", "user_id", "users"),
        CheckConstraint("origin IN ('assignment', 'referral')", name="origin"),
        CheckConstraint("ends_at > starts_at", name="times"),
        CheckConstraint("created_by <> user_id", name="not_to_oneself"),
        Index("ix_care_relationship_patient_id", "patient_id"),
        Index("ix_care_relationship_user_id", "user_id"),
    )

    patient_id: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(comment="the clinician or nurse who cares")
    origin: Mapped[str]
    reason: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None] = mapped_column(comment="null: until somebody ends it")
    created_by: Mapped[UUID | None] = mapped_column(comment="null: the program itself")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[UUID | None]
    end_reason: Mapped[str | None]


class PatientProxy(Tenant, Base):
    """That somebody acts for a patient: a parent, a guardian, whoever a court or the patient named."""

    __tablename__ = "patient_proxy"
    __table_args__ = (
        same_organization("patient_proxy", "patient_id", "patient"),
        same_organization("patient_proxy", "user_id", "users"),
        CheckConstraint("basis IN ('parent', 'guardian', 'incapacity', 'consent')", name="basis"),
        CheckConstraint("scopes <@ ARRAY['record', 'appointments'] AND scopes <> '{}'", name="scopes"),
        CheckConstraint("basis = 'consent' OR proof IS NOT NULL", name="proof"),
        CheckConstraint("ends_at > starts_at", name="times"),
        CheckConstraint("basis = 'consent' OR approved_by <> proposed_by", name="second_person"),
        CheckConstraint("(approved_at IS NULL) = (approved_by IS NULL)", name="approved"),
        Index("ix_patient_proxy_user_id", "user_id"),
        Index(
            "uq_patient_proxy_patient_id_user_id",
            "patient_id",
            "user_id",
            unique=True,
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    patient_id: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(comment="who acts for the patient")
    basis: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(TEXT))
    proof: Mapped[str | None] = mapped_column(comment="where the document is that shows it")
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None] = mapped_column(comment="null: until somebody revokes it")
    proposed_by: Mapped[UUID]
    proposed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    approved_by: Mapped[UUID | None]
    approved_at: Mapped[datetime | None] = mapped_column(comment="null: it gives nothing yet")
    revoked_by: Mapped[UUID | None]
    revoked_at: Mapped[datetime | None]
    revoke_reason: Mapped[str | None]


class BreakGlassGrant(Tenant, Base):
    """Sight of one patient for one user and an hour, without a relationship; somebody else reviews it."""

    __tablename__ = "break_glass_grant"
    __table_args__ = (
        same_organization("break_glass_grant", "patient_id", "patient"),
        same_organization("break_glass_grant", "user_id", "users"),
        CheckConstraint("reason_code IN ('EMERGENCY', 'COVERAGE', 'PATIENT_REQUEST', 'OTHER')", name="reason_code"),
        CheckConstraint("expires_at > starts_at", name="times"),
        CheckConstraint("outcome IN ('justified', 'unjustified')", name="outcome"),
        CheckConstraint("reviewed_by <> user_id", name="not_by_oneself"),
        CheckConstraint("(reviewed_at IS NULL) = (outcome IS NULL)", name="reviewed"),
        ExcludeConstraint(
            ("user_id", "="),
            ("patient_id", "="),
            ("during", "&&"),
            name="ex_break_glass_grant_user_id_patient_id_during",
            using="gist",
        ),
        Index("ix_break_glass_grant_starts_at", "organization_id", "starts_at"),
    )

    patient_id: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(comment="who broke the glass")
    reason_code: Mapped[str]
    reason: Mapped[str]
    starts_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    during: Mapped[Range[datetime]] = mapped_column(
        TSTZRANGE, Computed("tstzrange(starts_at, expires_at)", persisted=True)
    )
    reviewed_at: Mapped[datetime | None]
    reviewed_by: Mapped[UUID | None]
    outcome: Mapped[str | None]
    comment: Mapped[str | None]
