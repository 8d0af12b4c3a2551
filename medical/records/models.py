"""Resources as documents, their former versions, and what they are found by."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform.db import Base, Owned, Tenant, same_organization, tenant_key


class Resource(Tenant, Base):
    """A resource of FHIR R4 as it is now: the whole document, and who may see it."""

    __tablename__ = "resource"
    __table_args__ = (
        tenant_key("resource"),
        same_organization("resource", "patient_id", "patient"),
        UniqueConstraint("organization_id", "type", "fhir_id", name="uq_resource_organization_id_type_fhir_id"),
        Index("ix_resource_organization_id_type_updated_at", "organization_id", "type", "updated_at", "id"),
        Index("ix_resource_organization_id_updated_at", "organization_id", "updated_at", "id"),
        Index("ix_resource_patient_id_type", "patient_id", "type"),
    )

    type: Mapped[str]
    fhir_id: Mapped[str] = mapped_column(comment="the id that FHIR clients see")
    version: Mapped[int]
    updated_at: Mapped[datetime]
    patient_id: Mapped[UUID | None] = mapped_column(comment="in whose record it is")
    open: Mapped[bool] = mapped_column(comment="of no patient at all: everybody who reads records may see it")
    sensitive: Mapped[bool] = mapped_column(comment="by its security labels: not for proxies")
    created_by: Mapped[UUID | None] = mapped_column(comment="who sees it where its patient is not known here")
    deleted: Mapped[bool]
    document: Mapped[str | None] = mapped_column(JSONB, comment="decimals as they were written; none once deleted")


class ResourceVersion(Tenant, Base):
    """What a resource was before; its present version is in ``resource`` alone. Never changed or deleted."""

    __tablename__ = "resource_version"
    __table_args__ = (
        same_organization("resource_version", "resource_id", "resource"),
        UniqueConstraint("resource_id", "version", name="uq_resource_version_resource_id_version"),
        Index("ix_resource_version_organization_id_updated_at", "organization_id", "updated_at"),
    )

    resource_id: Mapped[UUID]
    version: Mapped[int]
    updated_at: Mapped[datetime]
    deleted: Mapped[bool]
    document: Mapped[str | None] = mapped_column(JSONB)


class AppointmentDocument(Owned, Base):
    """What a FHIR client said of an appointment that has no column; the rest is the appointment's row."""

    __tablename__ = "appointment_document"
    __table_args__ = (same_organization("appointment_document", "appointment_id", "appointment"),)

    appointment_id: Mapped[UUID] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="elements without a column")


class RecordImport(Tenant, Base):
    """How far a file of records has been taken in: what is interrupted goes on from there."""

    __tablename__ = "record_import"
    __table_args__ = (UniqueConstraint("organization_id", "digest", name="uq_record_import_organization_id_digest"),)

    digest: Mapped[bytes] = mapped_column(comment="SHA-256 of the file")
    name: Mapped[str]
    done: Mapped[int] = mapped_column(comment="so many of its entries")
    kept: Mapped[int]
    refused: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class RecordExport(Tenant, Base):
    """An export of many records that a service client asked for, and how far it is; it is written in the background."""

    __tablename__ = "record_export"
    __table_args__ = (tenant_key("record_export"), same_organization("record_export", "created_by", "users"))

    request: Mapped[str] = mapped_column(comment="the URL by which it was asked for")
    types: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="of resources, in the order of the files")
    since: Mapped[datetime | None] = mapped_column(comment="only what was written from then on")
    of_patients: Mapped[bool] = mapped_column(comment="only what is in the record of a patient")
    group_id: Mapped[str | None] = mapped_column(comment="only of the patients in this Group")
    scopes: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="of SMART, which narrow it; null: all that the client may"
    )
    created_by: Mapped[UUID] = mapped_column(comment="the service client that asked for it")
    created_at: Mapped[datetime]
    reached: Mapped[int] = mapped_column(default=0, comment="which of the types is being written")
    after: Mapped[UUID | None] = mapped_column(comment="the last resource of it that was written")
    completed_at: Mapped[datetime | None]
    failure: Mapped[str | None] = mapped_column(comment="why it was given up")


class RecordExportFile(Owned, Base):
    """Resources of one type, a line each, as an export wrote them."""

    __tablename__ = "record_export_file"
    __table_args__ = (same_organization("record_export_file", "export_id", "record_export", ondelete="CASCADE"),)

    export_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    count: Mapped[int] = mapped_column(comment="resources in it")
    content: Mapped[bytes] = mapped_column(comment="NDJSON")


resource_value = Table(
    "resource_value",
    Base.metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("organization_id", Uuid, nullable=False),
    Column("resource_id", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("parameter", Text, nullable=False),
    Column("system", Text),
    Column("code", Text),
    Column("text", Text),
    Column("low", Numeric),
    Column("high", Numeric),
    Column("since", DateTime(timezone=True)),
    Column("until", DateTime(timezone=True)),
    Column("target_type", Text),
    Column("target_id", Text),
    Column("subject_id", Uuid, comment="the one patient of its resource; null: none, several or unknown"),
    same_organization("resource_value", "resource_id", "resource", ondelete="CASCADE"),
    Index("ix_resource_value_resource_id_parameter", "resource_id", "parameter"),
    Index(
        "ix_resource_value_code",
        "organization_id",
        "type",
        "parameter",
        "code",
        "subject_id",
        postgresql_where="code IS NOT NULL",
    ),
    Index(
        "ix_resource_value_text",
        "organization_id",
        "type",
        "parameter",
        "text",
        postgresql_where="text IS NOT NULL",
        postgresql_ops={"text": "text_pattern_ops"},
    ),
    Index(
        "ix_resource_value_since",
        "organization_id",
        "type",
        "parameter",
        "since",
        "until",
        postgresql_where="since IS NOT NULL OR until IS NOT NULL",
    ),
    Index(
        "ix_resource_value_low",
        "organization_id",
        "type",
        "parameter",
        "low",
        "high",
        postgresql_where="low IS NOT NULL OR high IS NOT NULL",
    ),
    Index(
        "ix_resource_value_target",
        "organization_id",
        "target_type",
        "target_id",
        "type",
        "parameter",
        postgresql_where="target_id IS NOT NULL",
    ),
)
"""One value by which one search parameter finds one resource; which columns it uses depends on the parameter's kind."""
