"""Sign-in and accounts over HTTP."""

from uuid import UUID

from flask import Blueprint, current_app

from medical.audit.events import Action
from medical.identity import service, tokens
from medical.identity.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidRefreshToken,
    LastAdmin,
    OwnRoles,
    RefreshTokenReused,
)
from medical.identity.keys import KeyRing
from medical.identity.permissions import Permission
from medical.identity.schemas import (
    ChangeRoles,
    CreateUser,
    Login,
    Refresh,
    TokensOut,
    UpdateUser,
    UserOut,
)
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

auth = Blueprint("auth", __name__, url_prefix="/api/v1/auth")
users = Blueprint("users", __name__, url_prefix="/api/v1/users")


def _ring() -> KeyRing:
    ring: KeyRing = current_app.extensions["key_ring"]
    return ring


def _tokens(pair: service.TokenPair) -> TokensOut:
    return TokensOut(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        token_type="Bearer",  # noqa: S106 - the type of token, not a token
        expires_in=int(tokens.LIFETIME.total_seconds()),
    )


@endpoint(
    auth.post("/login"),
    body=Login,
    returns=(200, TokensOut),
    errors=[InvalidCredentials],
    audit=Action.SESSION_STARTED,
)
def login(body: Login) -> TokensOut:
    """Sign in with email and password."""
    return _tokens(service.login(_ring(), email=body.email, password=body.password))


@endpoint(
    auth.post("/refresh"),
    body=Refresh,
    returns=(200, TokensOut),
    errors=[InvalidRefreshToken, RefreshTokenReused],
    audit=Action.SESSION_REFRESHED,
)
def refresh(body: Refresh) -> TokensOut:
    """Exchange a refresh token, which works once, for a new pair of tokens."""
    return _tokens(service.refresh(_ring(), refresh_token=body.refresh_token))


@endpoint(
    auth.post("/logout"),
    permission=Permission.SESSION_OWN,
    returns=(204, None),
    audit=Action.SESSION_ENDED,
    own_sign_in=True,
)
def logout() -> None:
    """End this sign-in: all its tokens are refused from now on."""
    service.logout(current_actor())


@endpoint(
    users.post(""),
    permission=Permission.USER_CREATE,
    body=CreateUser,
    returns=(201, UserOut),
    errors=[EmailTaken],
    audit=Action.USER_CREATED,
    idempotent=True,
    etag=True,
    step_up=True,
)
def create_user(body: CreateUser) -> UserOut:
    """Open an account for somebody."""
    return UserOut.of(service.create_user(**body.arguments(), granted_by=current_actor().user_id))


@endpoint(
    users.get(""),
    permission=Permission.USER_READ,
    query=PageQuery,
    returns=(200, Page[UserOut]),
    audit=Action.USER_LISTED,
)
def list_users(query: PageQuery) -> Page[UserOut]:
    """List accounts, ordered by family name, given name, id."""
    rows = service.list_users(query.limit, read_cursor(query.cursor, tuple[str, str, UUID]))
    return page_of(rows, query.limit, UserOut.of, lambda user: (user.family_name, user.given_name, user.id))


@endpoint(
    users.get("/<uuid:user_id>"),
    permission=Permission.USER_READ,
    returns=(200, UserOut),
    audit=Action.USER_READ,
    etag=True,
)
def get_user(user_id: UUID) -> UserOut:
    """Read an account."""
    return UserOut.of(service.get_user(user_id))


@endpoint(
    users.patch("/<uuid:user_id>"),
    permission=Permission.USER_UPDATE,
    body=UpdateUser,
    returns=(200, UserOut),
    errors=[EmailTaken],
    audit=Action.USER_UPDATED,
    if_match=True,
    etag=True,
)
def update_user(user_id: UUID, body: UpdateUser, expected_version: int | None) -> UserOut:
    """Change names or email of an account."""
    return UserOut.of(service.update_user(user_id, expected_version, body.given()))


@endpoint(
    users.put("/<uuid:user_id>/roles"),
    permission=Permission.USER_ASSIGN_ROLE,
    body=ChangeRoles,
    returns=(200, UserOut),
    errors=[LastAdmin, OwnRoles],
    audit=Action.USER_ROLES_CHANGED,
    if_match=True,
    etag=True,
    step_up=True,
)
def change_roles(user_id: UUID, body: ChangeRoles, expected_version: int | None) -> UserOut:
    """Give a user exactly these roles; they hold from the user's next request on."""
    return UserOut.of(service.change_roles(current_actor(), user_id, expected_version, body.roles))


@endpoint(
    users.post("/<uuid:user_id>/deactivate"),
    permission=Permission.USER_DEACTIVATE,
    returns=(200, UserOut),
    errors=[LastAdmin],
    audit=Action.USER_DEACTIVATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def deactivate_user(user_id: UUID, expected_version: int | None) -> UserOut:
    """Close an account: every sign-in of it ends at once."""
    return UserOut.of(service.deactivate_user(current_actor(), user_id, expected_version))
