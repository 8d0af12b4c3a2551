"""Why sign-in and accounts are refused."""

from typing import ClassVar

import msgspec
from msgspec import Struct

from medical.platform.errors import AppError, Conflict, Forbidden, Unauthenticated


class InvalidCredentials(Unauthenticated):
    """Email and password do not belong together; nothing tells which of them is wrong."""

    code, title = "invalid_credentials", "Wrong email or password"
    detail = "Email and password do not belong together."


class OtpRequired(Unauthenticated):
    """The password is right, and the account has a second factor, which is missing."""

    code, title = "otp_required", "Second factor required"
    detail = "Send the code of your authenticator app, or a recovery code, as otp."
    keeps_changes = True


class InvalidOtp(Conflict):
    """The code that shall begin a second factor does not fit."""

    code, title = "invalid_otp", "Code does not fit"
    detail = "This code does not fit the secret; check the clock of the device and try the next code."


class OtpEnrolled(Conflict):
    """There is a second factor already."""

    code, title = "otp_enrolled", "Second factor exists"
    detail = "You have a second factor; remove it before you enrol another one."


class OtpNotEnrolled(Conflict):
    """There is no second factor to work with."""

    code, title = "otp_not_enrolled", "No second factor"
    detail = "There is no second factor here; begin with POST /api/v1/me/otp."


class InvalidRefreshToken(Unauthenticated):
    """The refresh token is unknown, expired, or of a sign-in that is over."""

    code, title = "invalid_refresh_token", "Refresh token not valid"
    detail = "This refresh token is not valid; sign in again."


class RefreshTokenReused(Unauthenticated):
    """A refresh token came back after its use: somebody has a copy, so the sign-in is ended."""

    code, title = "refresh_token_reused", "Refresh token used before"
    detail = "This refresh token was used before; every token of this sign-in is now dead; sign in again."
    keeps_changes = True


class EmailTaken(Conflict):
    """Another account has this email."""

    code, title = "email_taken", "Email taken"
    detail = "Another account has this email."


class LastAdmin(Conflict):
    """The organisation would be left without an active administrator."""

    code, title = "last_admin", "Last administrator"
    detail = "This is the organisation's last active administrator; make another one first."


class OwnRoles(Forbidden):
    """Nobody gives themselves a role (OWASP ASVS 5.0, 2.3.5)."""

    code, title = "own_roles", "Your own roles"
    detail = "You cannot give yourself a role; another administrator can."


class OrganizationExists(Conflict):
    """An organisation of this name exists, and is not the one meant."""

    code, title = "organization_exists", "Organisation exists"
    detail = "An organisation of this name exists already."


class RegistrationClosed(Conflict):
    """No organisation here takes patients who register themselves."""

    code, title = "registration_closed", "Registration closed"
    detail = "No organisation here takes registrations; ask your clinic for an account."


class ClientHasKeys(Conflict):
    """The client proves itself with keys; there is no secret to rotate."""

    code, title = "client_has_keys", "Client has keys"
    detail = "This client has keys and no secret; give it other keys with PATCH."


class ClientClosed(Conflict):
    """The client was deactivated, for good."""

    code, title = "client_closed", "Client is closed"
    detail = "This client was deactivated; make a new one."


class TokenProblem(Struct, frozen=True):
    """Why the token endpoint refuses, in OAuth's own shape (RFC 6749 section 5.2)."""

    error: str
    error_description: str


class OAuthError(AppError):
    """A refusal of the token endpoint; OAuth's word for it is ``error``."""

    status, code, title = 400, "oauth_error", "Token refused"
    detail = "There is no token for this."
    error: ClassVar[str] = "invalid_request"
    shape, media_type = TokenProblem, "application/json"

    def document(self, request_id: str) -> bytes:
        """The JSON of OAuth; the request's id is in the header alone."""
        return msgspec.json.encode(TokenProblem(self.error, self.detail))


class InvalidTokenRequest(OAuthError):
    """`invalid_request`: a parameter is missing, or there twice, or the client proves itself in two ways."""

    code, title = "invalid_token_request", "Invalid token request"
    detail = "The token request is not well formed."


class InvalidClient(OAuthError):
    """`invalid_client`: unknown, closed or not proven; nothing tells which."""

    status, code, title = 401, "invalid_client", "Client not proven"
    detail = "There is no such client, or it did not prove itself."
    error = "invalid_client"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": 'Basic realm="medical-backend"'})


class InvalidScope(OAuthError):
    """`invalid_scope`: more is asked than the client may."""

    code, title = "invalid_scope", "Scope not granted"
    detail = "The client may not ask for all of these scopes, or for none at all."
    error = "invalid_scope"
    keeps_changes = True


class UnsupportedGrantType(OAuthError):
    """`unsupported_grant_type`: something else than a code, a refresh token or `client_credentials`."""

    code, title = "unsupported_grant_type", "Grant type not supported"
    detail = "Grant types here are authorization_code, client_credentials and refresh_token."
    error = "unsupported_grant_type"


class KeyRingLocked(AppError):
    """The signing keys in the database were made under another SECRET_KEY."""

    detail = "SECRET_KEY does not open the signing keys of this database: set the one they were made with."


class KeyNotKnown(AppError):
    """The next signing key is not known everywhere yet."""

    detail = "The next signing key was made a moment ago, and not every process knows it: try again in two minutes."
