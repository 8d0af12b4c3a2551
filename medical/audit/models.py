"""The tables of the trail: events, what proves them, and searches as they were typed."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, ForeignKey, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from medical.platform.db import Base


class Xid8(UserDefinedType[str]):
    """The number of a transaction, which never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        """Its name in SQL."""
        return "xid8"


ischema_names["xid8"] = Xid8  # SQLAlchemy does not know the type when it reads a schema


class AuditEvent(Base):
    """One patient (or none) touched by one request; the application's role may insert and read, nothing else."""

    __tablename__ = "audit_event"
    __table_args__ = (
        CheckConstraint("octet_length(digest) = 32", name="digest"),
        Index("ix_audit_event_organization_id_occurred_at", "organization_id", "occurred_at"),
        Index(
            "ix_audit_event_organization_id_patient_id_occurred_at",
            "organization_id",
            "patient_id",
            "occurred_at",
        ),
        Index("ix_audit_event_transaction_id", "transaction_id"),
        {"postgresql_partition_by": "RANGE (occurred_at)"},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("organization.id"),
        comment="null: nobody's, such as a sign-in to an account that does not exist",
    )
    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
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
    purpose: Mapped[str | None] = mapped_column(comment="why, where it is out of the ordinary: BTG for a broken glass")
    on_behalf_of: Mapped[UUID | None] = mapped_column(comment="the user for whom a client acts")
    client_id: Mapped[str | None] = mapped_column(comment="the client through which it was done")
    search_digest: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="of the text that was searched for, which lies in audit_search"
    )
    format: Mapped[int] = mapped_column(
        SmallInteger, comment="of the encoding behind the digest, see docs/audit-format.md"
    )
    digest: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 over all of the above")
    transaction_id: Mapped[str] = mapped_column(
        Xid8,
        server_default=text("pg_current_xact_id()"),
        comment="by which the sealer knows what it has not seen yet",
    )


class AuditSearch(Base):
    """The text of a search; the application's role may insert it, and never sees it again."""

    __tablename__ = "audit_search"
    __table_args__ = ({"postgresql_partition_by": "RANGE (occurred_at)"},)

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organization.id"))
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    content: Mapped[str]


class AuditLink(Base):
    """The place of an event in the chain; only the sealer's role may add one, and nobody change one."""

    __tablename__ = "audit_link"

    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[UUID] = mapped_column(unique=True)
    occurred_at: Mapped[datetime]
    transaction_id: Mapped[str] = mapped_column(Xid8)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 over the hash before and this link")


class AuditSeal(Base):
    """A signed batch of links."""

    __tablename__ = "audit_seal"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_position: Mapped[int] = mapped_column(BigInteger)
    last_position: Mapped[int] = mapped_column(BigInteger)
    head: Mapped[bytes] = mapped_column(LargeBinary)
    root: Mapped[bytes] = mapped_column(LargeBinary, comment="Merkle root over the links of the batch")
    horizon: Mapped[str] = mapped_column(Xid8, comment="every event of an earlier transaction is sealed")
    sealed_at: Mapped[datetime]
    key_id: Mapped[str] = mapped_column(comment="public key, in hexadecimal digits")
    signature: Mapped[bytes] = mapped_column(LargeBinary)


class AuditArchive(Base):
    """A month whose events lie in a file; their links stay."""

    __tablename__ = "audit_archive"

    month: Mapped[date] = mapped_column(Date, primary_key=True)
    events: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the file")
    archived_at: Mapped[datetime] = mapped_column(server_default=func.now())
