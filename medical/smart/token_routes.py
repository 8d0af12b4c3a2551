"""The endpoints of OAuth that programs call, over HTTP: tokens, what they are good for, their end."""

from typing import Any

from authlib.oauth2 import OAuth2Error
from flask import Blueprint, Response, current_app, request

from medical.audit.events import Action
from medical.identity import assertions, grants, sessions
from medical.identity.client_schemas import (
    CLIENT_CREDENTIALS,
    MetadataOut,
    TokenOut,
    TokenRequest,
    read_form,
)
from medical.identity.errors import (
    InvalidClient,
    InvalidScope,
    InvalidTokenRequest,
    OAuthError,
    UnsupportedGrantType,
)
from medical.identity.permissions import grantable
from medical.identity.service import Access
from medical.platform.errors import TooManyAttempts
from medical.platform.http import endpoint, own_address
from medical.smart import inspection, proofs
from medical.smart.errors import GrantReused, InvalidGrant, UnauthorizedClient
from medical.smart.schemas import OTHER_SCOPES, IntrospectionOut, TokenIn
from medical.smart.server import CODE, REFRESH, SERVER, Request

oauth = Blueprint("oauth", __name__)

KEYS_PATH = "/.well-known/jwks.json"
AUTHORIZE_PATH = "/oauth/authorize"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - an address, not a token
INTROSPECT_PATH, REVOKE_PATH = "/oauth/introspect", "/oauth/revoke"
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
PROVING = [InvalidTokenRequest, InvalidClient, TooManyAttempts]
WORDS = {
    "invalid_grant": InvalidGrant,
    "invalid_request": InvalidTokenRequest,
    "unauthorized_client": UnauthorizedClient,
    "invalid_scope": InvalidScope,
}
"""Our refusals by OAuth's words, which Authlib says."""


@endpoint(
    oauth.post(TOKEN_PATH),
    form=TokenRequest,
    returns=(200, TokenOut),
    errors=[*PROVING, UnsupportedGrantType, InvalidScope, InvalidGrant, GrantReused, UnauthorizedClient],
    audit=Action.TOKEN_ISSUED,
)
def issue_token(form: bytes) -> TokenOut:
    """Get an access token: for a service client by itself, or for an app by a code or a refresh token.

    What OAuth 2 has a word for is refused in its shape, `{error, error_description}` (RFC 6749 section 5.2);
    here and nowhere else. Whatever is not about the grant is a problem document, as everywhere.
    """
    asked = TokenRequest.read(form)
    authorization, access = request.headers.get("Authorization"), _access()
    if asked.grant_type != CLIENT_CREDENTIALS:
        app = proofs.prove_app(access, authorization, asked.credentials(), _audiences())
        return TokenOut(**_granted(Request("POST", asked.plain(), app, access.ring)))
    credentials = grants.read_credentials(authorization, **asked.credentials())
    granted = grants.grant(access, credentials, asked.scopes, _audiences())
    return TokenOut(
        access_token=granted.access_token,
        token_type="Bearer",  # noqa: S106 - the type of token, not a token
        expires_in=int(sessions.CLIENT_LIFETIME.total_seconds()),
        scope=" ".join(granted.scopes),
    )


@endpoint(
    oauth.post(INTROSPECT_PATH),
    form=TokenIn,
    returns=(200, IntrospectionOut),
    errors=PROVING,
    audit=Action.TOKEN_INTROSPECTED,
)
def introspect(form: bytes) -> IntrospectionOut:
    """Ask what an access token is good for (RFC 7662): an app of its own, a service client of any of the clinic's."""
    asked = read_form(form, TokenIn)
    caller = proofs.prove_any(_access(), request.headers.get("Authorization"), asked.credentials(), _audiences())
    return IntrospectionOut(**inspection.introspected(_access().ring, asked.token, *caller), iss=own_address())


@endpoint(
    oauth.post(REVOKE_PATH),
    form=TokenIn,
    returns=(200, None),
    errors=PROVING,
    audit=Action.TOKEN_REVOKED,
)
def revoke(form: bytes) -> None:
    """End what a user let an app do, by any of its tokens (RFC 7009); one that is none is no error."""
    asked = read_form(form, TokenIn)
    app = proofs.prove_app(_access(), request.headers.get("Authorization"), asked.credentials(), _audiences())
    inspection.revoke(_access().ring, asked.token, app)


@endpoint(oauth.get("/.well-known/oauth-authorization-server"), returns=(200, MetadataOut))
def show_metadata() -> MetadataOut:
    """What the endpoints of OAuth can do, for programs (RFC 8414)."""
    return MetadataOut(
        issuer=own_address(), **endpoints(own_address()), scopes_supported=sorted([*grantable(), *OTHER_SCOPES])
    )


def endpoints(here: str) -> dict[str, Any]:
    """Where at this address the endpoints of OAuth are and what they take, by the names of RFC 8414."""
    return {
        "authorization_endpoint": here + AUTHORIZE_PATH,
        "token_endpoint": here + TOKEN_PATH,
        "introspection_endpoint": here + INTROSPECT_PATH,
        "revocation_endpoint": here + REVOKE_PATH,
        "jwks_uri": here + KEYS_PATH,
        "token_endpoint_auth_methods_supported": [*METHODS, "none"],
        "token_endpoint_auth_signing_alg_values_supported": [*assertions.ALGORITHMS],
        "grant_types_supported": [CODE, CLIENT_CREDENTIALS, REFRESH],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


def _audiences() -> set[str]:
    """Whom an assertion may be for."""
    return {own_address(), own_address() + TOKEN_PATH}


def _granted(asked: Request) -> dict[str, Any]:
    """What Authlib gives for the grant. Raises what is refused, in our words."""
    try:
        grant = SERVER.get_token_grant(asked)
        grant.validate_token_request()
        _, token, _ = grant.create_token_response()
    except OAuth2Error as refusal:
        raise _in_our_words(refusal) from None
    given: dict[str, Any] = token
    return given


def _in_our_words(refusal: OAuth2Error) -> OAuthError:
    kind = WORDS.get(refusal.error, InvalidGrant)
    return kind(refusal.get_error_description() or None)


@oauth.after_request
def _forbid_keeping(response: Response) -> Response:
    """What RFC 6749 section 5.1 asks for, besides the `no-store` that every answer has."""
    response.headers["Pragma"] = "no-cache"
    return response
