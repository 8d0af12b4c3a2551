"""Wire shapes of accounts and sign-in."""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from medical.identity.models import User
from medical.identity.passwords import MAXIMUM_LENGTH, NewPassword
from medical.identity.permissions import Role
from medical.platform.wire import Email, Input, Output, Text, Version

Roles = Annotated[list[Role], Meta(min_length=1, max_length=len(Role))]


class Login(Input, frozen=True, kw_only=True):
    """Email and password."""

    email: Annotated[str, Meta(min_length=1, max_length=254)]
    password: Annotated[str, Meta(min_length=1, max_length=MAXIMUM_LENGTH, extra_json_schema={"format": "password"})]


class Refresh(Input, frozen=True, kw_only=True):
    """The refresh token of the last answer."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=200)]


class TokensOut(Output, frozen=True, kw_only=True):
    """Tokens of a sign-in; `expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


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
