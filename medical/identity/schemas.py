"""Wire shapes of accounts and sign-in."""

from base64 import urlsafe_b64encode
from typing import Annotated, Literal
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import UNSET, Meta, UnsetType

from medical.identity.models import AuthSession, User
from medical.identity.passwords import MAXIMUM_LENGTH, NewPassword
from medical.identity.permissions import Role
from medical.platform.wire import Email, Input, Instant, Output, Text, Version

Roles = Annotated[list[Role], Meta(min_length=1, max_length=len(Role))]

GivenPassword = Annotated[str, Meta(min_length=1, max_length=MAXIMUM_LENGTH, extra_json_schema={"format": "password"})]
Otp = Annotated[str, Meta(min_length=6, max_length=40, description="code of the authenticator app, or a recovery code")]


class Login(Input, frozen=True, kw_only=True):
    """Email and password, and the code of a second factor where there is one."""

    email: Annotated[str, Meta(min_length=1, max_length=254)]
    password: GivenPassword
    otp: Otp | None = None


class StepUp(Input, frozen=True, kw_only=True):
    """Password, and the code of a second factor where there is one."""

    password: GivenPassword
    otp: Otp | None = None


class StepUpOut(Output, frozen=True, kw_only=True):
    """When the caller proved who they are, and until when that counts for sensitive acts."""

    authenticated_at: Instant
    fresh_until: Instant


class ChangePassword(Input, frozen=True, kw_only=True):
    """The password of now and the one to be."""

    current_password: GivenPassword
    new_password: NewPassword


class OtpOut(Output, frozen=True, kw_only=True):
    """What an authenticator app needs: the secret, by hand, by address or as a picture (SVG)."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class ConfirmOtp(Input, frozen=True, kw_only=True):
    """A code of the authenticator app."""

    otp: Annotated[str, Meta(min_length=6, max_length=10)]


class RecoveryCodesOut(Output, frozen=True, kw_only=True):
    """Codes that stand in for the app, each once; they are told this once."""

    recovery_codes: list[str]


class Refresh(Input, frozen=True, kw_only=True):
    """The refresh token of the last answer."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=200)]


class TokensOut(Output, frozen=True, kw_only=True):
    """Tokens of a sign-in; `expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class SessionOut(Output, frozen=True, kw_only=True):
    """A sign-in that lives; `current` is the one that asks, `last_used_at` is exact to a minute.

    `app_id` is of the app that was let act for the user; ending the sign-in takes that back.
    """

    id: UUID
    created_at: Instant
    last_used_at: Instant
    expires_at: Instant
    current: bool
    second_factor: bool
    app_id: UUID | None

    @classmethod
    def of(cls, session: AuthSession, current: UUID | None) -> "SessionOut":
        """The sign-in as its user sees it."""
        return cls(
            id=session.id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            current=session.id == current,
            second_factor=session.second_factor,
            app_id=session.app_id,
        )


class Jwk(Output, frozen=True, kw_only=True):
    """The public half of a key that signs access tokens (RFC 8037)."""

    kid: str
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"
    x: str

    @classmethod
    def of(cls, kid: str, key: Ed25519PublicKey) -> "Jwk":
        """The key as verifiers read it."""
        return cls(kid=kid, x=urlsafe_b64encode(key.public_bytes_raw()).decode().rstrip("="))


class JwksOut(Output, frozen=True, kw_only=True):
    """The keys that access tokens are verified with (RFC 7517)."""

    keys: list[Jwk]


class CreateUser(Input, frozen=True, kw_only=True):
    """A new account; without a password it cannot sign in by password."""

    email: Email
    given_name: Text
    family_name: Text
    roles: Roles
    password: NewPassword | None = None


class UpdateUser(Input, frozen=True, kw_only=True):
    """Changed fields of an account."""

    email: Email | UnsetType = UNSET
    given_name: Text | UnsetType = UNSET
    family_name: Text | UnsetType = UNSET


class ChangeRoles(Input, frozen=True, kw_only=True):
    """The roles a user shall have, and no others."""

    roles: Roles


class UserOut(Output, frozen=True, kw_only=True):
    """An account."""

    id: UUID
    email: str
    given_name: str
    family_name: str
    roles: list[str]
    active: bool
    version: Version

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The account as callers see it."""
        return cls(
            id=user.id,
            email=user.email,
            given_name=user.given_name,
            family_name=user.family_name,
            roles=sorted(grant.role for grant in user.roles),
            active=user.active,
            version=user.version,
        )
