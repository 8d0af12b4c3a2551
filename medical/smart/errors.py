"""Why an app gets no token, and its user no page."""

from medical.identity.errors import OAuthError
from medical.platform.errors import AppError, Conflict


class NoSecret(Conflict):
    """The app proves itself with keys, or not at all; there is no secret to rotate."""

    code, title = "no_secret", "App has no secret"
    detail = "This app has no secret."


class NoLaunchAddress(Conflict):
    """The app is not opened from here: it has no address for that."""

    code, title = "no_launch_uri", "App is not launched from here"
    detail = "This app has no launch_uri; its users open it by themselves."


class AuthorizationRefused(AppError):
    """What an app asks of a user is not asked as it should be, so nobody is sent back to it."""

    status, code, title = 400, "authorization_refused", "This app cannot be let in"
    detail = "The app asks in a way that cannot be answered; tell whoever made it."


class OtherClinic(AppError):
    """The user is of another organisation than the app."""

    status, code, title = 403, "other_clinic", "Another clinic's app"
    detail = "This app is of another clinic than your account."


class ConsentOver(AppError):
    """The page has been open for too long, or is not one of ours."""

    status, code, title = 400, "consent_over", "Begin again"
    detail = "This page was open for too long; open the app again."


class InvalidGrant(OAuthError):
    """`invalid_grant`: the code or refresh token is unknown, over, another app's, or the verifier does not fit."""

    code, title = "invalid_grant", "Grant not valid"
    detail = "This code or refresh token is not good, or not for this app."
    error = "invalid_grant"


class GrantReused(InvalidGrant):
    """`invalid_grant`: the code or refresh token came back after its use: what came of it ends."""

    code, title = "grant_reused", "Grant used before"
    detail = "This code or refresh token was used before; every token that came of it is now dead."
    keeps_changes = True


class UnauthorizedClient(OAuthError):
    """`unauthorized_client`: the app may not ask so."""

    code, title = "unauthorized_client", "Not for this app"
    detail = "This app may not ask for tokens so."
    error = "unauthorized_client"
