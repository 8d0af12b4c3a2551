"""Sign-in and accounts over HTTP."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from flask import Blueprint, current_app

from medical.audit.events import Action
from medical.identity import service, tokens
from medical.identity.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidOtp,
    InvalidRefreshToken,
    LastAdmin,
    OtpEnrolled,
    OtpNotEnrolled,
    OtpRequired,
    OwnRoles,
    RefreshTokenReused,
)
from medical.identity.permissions import Permission
from medical.identity.schemas import (
    ChangePassword,
    ChangeRoles,
    ConfirmOtp,
    CreateUser,
    Jwk,
    JwksOut,
    Login,
    OtpOut,
    RecoveryCodesOut,
    Refresh,
    SessionOut,
    StepUp,
    StepUpOut,
    TokensOut,
    UpdateUser,
    UserOut,
)
from medical.platform.authz import current_actor
from medical.platform.errors import TooManyAttempts
from medical.platform.http import FRESH, endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

auth = Blueprint("auth", __name__, url_prefix="/api/v1/auth")
own = Blueprint("own", __name__, url_prefix="/api/v1/me")
users = Blueprint("users", __name__, url_prefix="/api/v1/users")
well_known = Blueprint("well_known", __name__, url_prefix="/.well-known")

KEYS_KEPT_SECONDS = 60
"""How long a verifier may keep the published keys; the next one is published for longer than that before it signs."""


def _access() -> service.Access:
    access: service.Access = current_app.extensions["access"]
    return access


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
    errors=[InvalidCredentials, OtpRequired, TooManyAttempts],
    audit=Action.SESSION_STARTED,
)
def login(body: Login) -> TokensOut:
    """Sign in with email and password, and a second factor where the account has one."""
    return _tokens(service.login(_access(), **body.arguments()))


@endpoint(
    auth.post("/refresh"),
    body=Refresh,
    returns=(200, TokensOut),
    errors=[InvalidRefreshToken, RefreshTokenReused],
    audit=Action.SESSION_REFRESHED,
)
def refresh(body: Refresh) -> TokensOut:
    """Exchange a refresh token, which works once, for a new pair of tokens."""
    return _tokens(service.refresh(_access().ring, refresh_token=body.refresh_token))


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
    auth.post("/step-up"),
    permission=Permission.SESSION_OWN,
    body=StepUp,
    returns=(200, StepUpOut),
    errors=[InvalidCredentials, OtpRequired, TooManyAttempts],
    audit=Action.SESSION_PROVED,
    own_sign_in=True,
)
def step_up(body: StepUp) -> StepUpOut:
    """Prove again who one is, for what needs a recent proof."""
    now = service.step_up(_access(), current_actor(), **body.arguments())
    return StepUpOut(authenticated_at=now, fresh_until=now + FRESH)


@endpoint(
    own.post("/password"),
    permission=Permission.SESSION_OWN,
    body=ChangePassword,
    returns=(204, None),
    errors=[InvalidCredentials, TooManyAttempts],
    audit=Action.PASSWORD_CHANGED,
    own_sign_in=True,
)
def change_password(body: ChangePassword) -> None:
    """Choose another password; every other sign-in ends."""
    service.change_password(_access(), current_actor(), **body.arguments())


@endpoint(
    own.post("/otp"),
    permission=Permission.SESSION_OWN,
    returns=(200, OtpOut),
    errors=[OtpEnrolled],
    audit=Action.OTP_BEGUN,
    step_up=True,
    own_sign_in=True,
)
def begin_otp() -> OtpOut:
    """Begin the enrolment of an authenticator app; it counts once a code of it is confirmed."""
    enrolment = service.begin_otp(_access(), current_actor())
    return OtpOut(secret=enrolment.secret, otpauth_uri=enrolment.otpauth_uri, qr_svg=enrolment.qr_svg)


@endpoint(
    own.post("/otp/confirm"),
    permission=Permission.SESSION_OWN,
    body=ConfirmOtp,
    returns=(200, RecoveryCodesOut),
    errors=[InvalidOtp, OtpEnrolled, OtpNotEnrolled, TooManyAttempts],
    audit=Action.OTP_ENROLLED,
    step_up=True,
    own_sign_in=True,
)
def confirm_otp(body: ConfirmOtp) -> RecoveryCodesOut:
    """Enrol the app with a code of it; every other sign-in ends."""
    return RecoveryCodesOut(recovery_codes=service.confirm_otp(_access(), current_actor(), body.otp))


@endpoint(
    own.post("/otp/recovery-codes"),
    permission=Permission.SESSION_OWN,
    returns=(200, RecoveryCodesOut),
    errors=[OtpNotEnrolled],
    audit=Action.RECOVERY_CODES_MADE,
    step_up=True,
    own_sign_in=True,
)
def renew_recovery_codes() -> RecoveryCodesOut:
    """Get new recovery codes; the old ones are void."""
    return RecoveryCodesOut(recovery_codes=service.renew_recovery_codes(_access(), current_actor()))


@endpoint(
    own.delete("/otp"),
    permission=Permission.SESSION_OWN,
    returns=(204, None),
    errors=[OtpNotEnrolled],
    audit=Action.OTP_REMOVED,
    step_up=True,
    own_sign_in=True,
)
def remove_otp() -> None:
    """Remove one's second factor; who has a role that demands one must enrol anew."""
    service.remove_otp(current_actor())


@endpoint(
    own.get("/sessions"),
    permission=Permission.SESSION_OWN,
    query=PageQuery,
    returns=(200, Page[SessionOut]),
    audit=Action.SESSION_LISTED,
    own_sign_in=True,
)
def list_own_sessions(query: PageQuery) -> Page[SessionOut]:
    """List one's own sign-ins that live, newest first."""
    actor = current_actor()
    return _sessions(actor.user_id, actor.roles, query)


@endpoint(
    own.delete("/sessions/<uuid:session_id>"),
    permission=Permission.SESSION_OWN,
    returns=(204, None),
    audit=Action.SESSION_ENDED,
    own_sign_in=True,
)
def end_own_session(session_id: UUID) -> None:
    """End one of one's own sign-ins, be it this one: its tokens are refused from now on."""
    service.end_session(current_actor(), session_id)


@endpoint(
    users.get("/<uuid:user_id>/sessions"),
    permission=Permission.SESSION_END_ANY,
    query=PageQuery,
    returns=(200, Page[SessionOut]),
    audit=Action.SESSION_LISTED,
)
def list_sessions(user_id: UUID, query: PageQuery) -> Page[SessionOut]:
    """List a user's sign-ins that live, newest first."""
    user = service.get_user(user_id)
    return _sessions(user.id, [grant.role for grant in user.roles], query)


@endpoint(
    users.delete("/<uuid:user_id>/sessions"),
    permission=Permission.SESSION_END_ANY,
    returns=(204, None),
    audit=Action.SESSIONS_ENDED,
)
def end_sessions(user_id: UUID) -> None:
    """End all sign-ins of a user: their tokens are refused from now on."""
    service.end_sessions(current_actor(), user_id)


def _sessions(user_id: UUID, roles: Iterable[str], query: PageQuery) -> Page[SessionOut]:
    rows = service.list_sessions(user_id, roles, query.limit, read_cursor(query.cursor, tuple[datetime, UUID]))
    current = current_actor().session_id
    return page_of(
        rows, query.limit, lambda row: SessionOut.of(row, current), lambda session: (session.created_at, session.id)
    )


@endpoint(
    users.delete("/<uuid:user_id>/otp"),
    permission=Permission.USER_RESET_OTP,
    returns=(204, None),
    errors=[OtpNotEnrolled],
    audit=Action.OTP_RESET,
    step_up=True,
)
def reset_otp(user_id: UUID) -> None:
    """Remove a second factor that somebody lost; their sign-ins end."""
    service.reset_otp(current_actor(), user_id)


@endpoint(well_known.get("/jwks.json"), returns=(200, JwksOut), max_age=KEYS_KEPT_SECONDS)
def show_keys() -> JwksOut:
    """Publish the keys that verify access tokens: the one that signs, the next, and those of tokens that live."""
    return JwksOut(keys=[Jwk.of(kid, key) for kid, key in _access().ring.published().items()])


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
