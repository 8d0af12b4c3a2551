"""Apps, and the codes by which they get their tokens."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from medical.platform.db import Base, Owned, Tenant, same_organization, tenant_key


class SmartApp(Tenant, Base):
    """A program that acts for users, with what each of them lets it do; without secret and keys it is public."""

    __tablename__ = "smart_app"
    __table_args__ = (
        tenant_key("smart_app"),
        same_organization("smart_app", "created_by", "users"),
        CheckConstraint("secret_digest IS NULL OR jwks IS NULL", name="secret_or_keys"),
    )

    name: Mapped[str]
    redirect_uris: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="where users are sent back to, and nowhere else"
    )
    launch_uri: Mapped[str | None] = mapped_column(comment="where the app is opened from the clinic's program")
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="of SMART: the most it may ask")
    secret_digest: Mapped[bytes | None] = mapped_column(LargeBinary, comment="SHA-256 of the secret")
    jwks: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="its public keys (RFC 7517), instead of a secret"
    )
    active: Mapped[bool] = mapped_column(default=True)
    created_by: Mapped[UUID | None]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own form


class AuthorizationCode(Owned, Base):
    """A code that stands for what a user let an app do, by its digest; the app changes it for tokens, once."""

    __tablename__ = "authorization_code"
    __table_args__ = (
        same_organization("authorization_code", "app_id", "smart_app"),
        same_organization("authorization_code", "user_id", "users"),
        same_organization("authorization_code", "patient_id", "patient"),
        Index("ix_authorization_code_expires_at", "expires_at"),
    )

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="SHA-256 of the code")
    app_id: Mapped[UUID]
    user_id: Mapped[UUID]
    redirect_uri: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="what the user let the app do")
    code_challenge: Mapped[str] = mapped_column(comment="S256 (RFC 7636)")
    patient_id: Mapped[UUID | None] = mapped_column(comment="whom the app was launched for")
    second_factor: Mapped[bool]
    expires_at: Mapped[datetime]
    session_id: Mapped[UUID | None] = mapped_column(comment="the sign-in that came of it; null: not used yet")

    def get_redirect_uri(self) -> str:
        """Where the code was sent; for Authlib."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What the code allows; for Authlib."""
        return " ".join(self.scopes)

    @property
    def code_challenge_method(self) -> str:
        """How the challenge was made; for Authlib."""
        return "S256"
