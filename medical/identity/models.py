"""Organisations, users, their roles and sign-ins."""

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from medical.platform.db import Base, Owned, Tenant, same_organization, tenant_key
from medical.platform.ids import new_id

if TYPE_CHECKING:
    from medical.people.models import Clinician, Patient
    from medical.scheduling.models import Availability


class Organization(Base):
    """The tenant: a clinic, with everything in it."""

    __tablename__ = "organization"
    __table_args__ = (
        Index(
            "uq_organization_self_registration",
            "self_registration",
            unique=True,
            postgresql_where=text("self_registration"),
        ),
        CheckConstraint("proxy_age_limit BETWEEN 0 AND 25", name="proxy_age_limit"),
        CheckConstraint("(timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL", name="time_zone"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(unique=True)
    time_zone: Mapped[str] = mapped_column(server_default="UTC", comment="where its days begin and end")
    proxy_age_limit: Mapped[int] = mapped_column(
        SmallInteger,
        server_default="16",
        comment="years of age from which a parent or guardian no longer acts for a patient",
    )
    version: Mapped[int] = mapped_column(server_default="1", default=1)
    self_registration: Mapped[bool] = mapped_column(comment="where people who register themselves go; one at most")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class User(Tenant, Base):
    """Somebody, or something, that can sign in."""

    __tablename__ = "users"
    __table_args__ = (
        tenant_key("users"),
        UniqueConstraint("email", name="uq_users_email"),
        CheckConstraint("email = lower(email)", name="email_lower"),
    )

    email: Mapped[str]
    given_name: Mapped[str]
    family_name: Mapped[str]
    password_hash: Mapped[str | None] = mapped_column(comment="argon2id; null: cannot sign in by password")
    active: Mapped[bool] = mapped_column(default=True)
    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    roles: Mapped[list["RoleGrant"]] = relationship(
        back_populates="user",
        lazy="raise",
        primaryjoin="User.id == foreign(RoleGrant.user_id)",
        order_by="RoleGrant.role",
        cascade="all, delete-orphan",
    )
    clinician: Mapped["Clinician | None"] = relationship(
        back_populates="user", lazy="raise", primaryjoin="User.id == foreign(Clinician.id)"
    )
    patient: Mapped["Patient | None"] = relationship(
        back_populates="user", lazy="raise", primaryjoin="User.id == foreign(Patient.user_id)"
    )
    service_client: Mapped["ServiceClient | None"] = relationship(
        back_populates="user", lazy="raise", primaryjoin="User.id == foreign(ServiceClient.id)"
    )
    availabilities: Mapped[list["Availability"]] = relationship(
        back_populates="clinician",
        lazy="raise",
        primaryjoin="User.id == foreign(Availability.clinician_id)",
        order_by="Availability.id",
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class RoleGrant(Owned, Base):
    """That a user holds a role."""

    __tablename__ = "role_grant"
    __table_args__ = (
        same_organization("role_grant", "user_id", "users"),
        CheckConstraint(
            "role IN ('admin', 'clinician', 'nurse', 'receptionist', 'patient', 'auditor', 'service')",
            name="role",
        ),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    granted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    granted_by: Mapped[UUID | None]

    user: Mapped[User] = relationship(
        back_populates="roles", lazy="raise", primaryjoin="User.id == foreign(RoleGrant.user_id)"
    )


class AuthSession(Tenant, Base):
    """One sign-in, from login to logout or expiry; the family of its refresh tokens."""

    __tablename__ = "auth_session"
    __table_args__ = (
        tenant_key("auth_session"),
        same_organization("auth_session", "user_id", "users"),
        same_organization("auth_session", "app_id", "smart_app"),
        same_organization("auth_session", "patient_id", "patient"),
        Index("ix_auth_session_user_id", "user_id"),
        Index("ix_auth_session_app_id", "app_id", postgresql_where=text("app_id IS NOT NULL")),
    )

    user_id: Mapped[UUID]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None]
    authenticated_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="when password, and second factor where there is one, were last given"
    )
    second_factor: Mapped[bool] = mapped_column(server_default=false())
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="the last call, to the minute")
    scopes: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text), comment="permissions, or SMART scopes, it is narrowed to; null: whatever the roles allow"
    )
    app_id: Mapped[UUID | None] = mapped_column(comment="the app through which the user acts; null: they themselves")
    patient_id: Mapped[UUID | None] = mapped_column(comment="whom the app was launched for")


class RefreshToken(Tenant, Base):
    """A refresh token by its digest; the token itself is nowhere."""

    __tablename__ = "refresh_token"
    __table_args__ = (
        same_organization("refresh_token", "session_id", "auth_session"),
        UniqueConstraint("digest", name="uq_refresh_token_digest"),
        UniqueConstraint("session_id", "generation", name="uq_refresh_token_session_id_generation"),
    )

    session_id: Mapped[UUID]
    generation: Mapped[int] = mapped_column(comment="counts the rotations of the sign-in")
    digest: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the token")
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ServiceClient(Owned, Base):
    """A program that calls in its own name; the id is that of its user, whose only role is `service`."""

    __tablename__ = "service_client"
    __table_args__ = (
        tenant_key("service_client"),
        same_organization("service_client", "id", "users"),
        same_organization("service_client", "created_by", "users"),
        CheckConstraint("(secret_digest IS NULL) <> (jwks IS NULL)", name="secret_or_keys"),
    )

    id: Mapped[UUID] = mapped_column(
        primary_key=True, comment="the client_id; a user's, in whose name the client works"
    )
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="permissions, or SMART scopes of the system: the most it may ask"
    )
    secret_digest: Mapped[bytes | None] = mapped_column(LargeBinary, comment="SHA-256 of the secret")
    jwks: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="its public keys (RFC 7517), instead of a secret"
    )
    created_by: Mapped[UUID | None]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)

    user: Mapped[User] = relationship(
        back_populates="service_client", lazy="raise", primaryjoin="User.id == foreign(ServiceClient.id)"
    )

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class ClientAssertion(Owned, Base):
    """An assertion that a service client or an app signed and used, for as long as it would be good for once more."""

    __tablename__ = "client_assertion"
    __table_args__ = (Index("ix_client_assertion_expires_at", "expires_at"),)

    client_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="SHA-256 of the jti")
    expires_at: Mapped[datetime]


class OtpCredential(Owned, Base):
    """A user's second factor: the secret of their authenticator app (RFC 6238)."""

    __tablename__ = "otp_credential"
    __table_args__ = (same_organization("otp_credential", "user_id", "users"),)

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary, comment="encrypted under SECRET_KEY")
    confirmed_at: Mapped[datetime | None] = mapped_column(comment="null: enrolment has begun, nothing demands it")
    last_step: Mapped[int] = mapped_column(BigInteger, comment="the latest step whose code was used")
    created_at: Mapped[datetime]


class RecoveryCode(Owned, Base):
    """A code that stands in for the authenticator app once, by its digest; using it removes it."""

    __tablename__ = "recovery_code"
    __table_args__ = (same_organization("recovery_code", "user_id", "users"),)

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="keyed SHA-256 of the code")


class SignInThrottle(Base):
    """How often sign-in failed lately, by a keyed digest of what was tried; belongs to the installation."""

    __tablename__ = "sign_in_throttle"
    __table_args__ = (Index("ix_sign_in_throttle_forget_at", "forget_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="of an account, a network, or both")
    failures: Mapped[float] = mapped_column(Double, comment="wrong tries, fewer as time passes")
    blocked_until: Mapped[datetime]
    updated_at: Mapped[datetime]
    forget_at: Mapped[datetime] = mapped_column(comment="when the row means nothing any more")


class SigningKey(Base):
    """A key of the ring that signs access tokens; belongs to the installation, not to an organisation."""

    __tablename__ = "signing_key"
    __table_args__ = (
        CheckConstraint("status IN ('next', 'active', 'retired')", name="status"),
        CheckConstraint("(status = 'retired') = (retired_at IS NOT NULL)", name="retired"),
        Index("uq_signing_key_active", "status", unique=True, postgresql_where=text("status = 'active'")),
        Index("uq_signing_key_next", "status", unique=True, postgresql_where=text("status = 'next'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True, comment="the kid of tokens")
    status: Mapped[str]
    private_key: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="Ed25519, encrypted under SECRET_KEY; null: retired"
    )
    public_key: Mapped[bytes] = mapped_column(LargeBinary, comment="Ed25519, raw")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
