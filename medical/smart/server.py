"""The authorization server of apps, on Authlib: what it asks of us is what is kept, and how tokens are made.

Sources: RFC 6749 (grants), RFC 7636 (PKCE), https://hl7.org/fhir/smart-app-launch/app-launch.html.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, InvalidRequestError, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from sqlalchemy import select, text

from medical.audit import service as audit
from medical.identity import service as accounts
from medical.identity import sessions, tokens
from medical.identity.errors import InvalidRefreshToken, RefreshTokenReused
from medical.identity.keys import KeyRing
from medical.identity.sessions import Started, ThroughApp
from medical.platform import authz, clock
from medical.platform.authz import Actor
from medical.platform.db import Scope, db, enter
from medical.platform.scopes import within
from medical.smart import apps
from medical.smart.errors import GrantReused
from medical.smart.models import AuthorizationCode, SmartApp

CODE, REFRESH = "authorization_code", "refresh_token"
OFFLINE, ONLINE = "offline_access", "online_access"
CODE_LIFETIME = timedelta(minutes=1)
LIFETIMES = {OFFLINE: timedelta(days=90), ONLINE: sessions.LIFETIME}
"""Of what a user let an app do, where it may carry on by refresh tokens."""
KEPT = timedelta(days=1)
PLACE = "https://server.invalid/oauth"
"""Stands for our address in Authlib's requests: whether a connection is encrypted, the edge sees to."""

SWEEP = text(
    "DELETE FROM authorization_code WHERE digest IN (SELECT digest FROM authorization_code"
    " WHERE expires_at < :before ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED)"
)


class Client(ClientMixin):
    """An app, as Authlib asks about it."""

    def __init__(self, app: SmartApp) -> None:
        self.app = app

    def get_client_id(self) -> str:
        """The app's id."""
        return str(self.app.id)

    def get_default_redirect_uri(self) -> None:
        """None: an app always says where its users are sent back to."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """As much of what is asked for as the app may ask; None where that is nothing."""
        return " ".join(within((scope or "").split(), self.app.scopes)) or None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether it is one of the app's, letter by letter (RFC 9700 section 2.1)."""
        return redirect_uri in self.app.redirect_uris

    def check_response_type(self, response_type: str) -> bool:
        """Whether the app may ask so: by codes alone."""
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the app may ask so: by codes, and on from there."""
        return grant_type in (CODE, REFRESH)


class Request(OAuth2Request):
    """A request of an app, or of a user's browser that it sent."""

    def __init__(
        self, method: str, parameters: Mapping[str, str], app: SmartApp | None = None, ring: KeyRing | None = None
    ) -> None:
        """``app``: which proved itself; ``ring``: which signs its tokens."""
        super().__init__(method, PLACE)
        self._parameters = dict(parameters)
        self.payload = BasicOAuth2Payload(self._parameters)
        self._app, self._ring = app, ring

    @property
    def proven(self) -> SmartApp:
        """The app; a programming error where none proved itself."""
        if self._app is None:
            raise LookupError("no app proved itself")
        return self._app

    @property
    def ring(self) -> KeyRing:
        """Which signs the tokens; a programming error where there are to be none."""
        if self._ring is None:
            raise LookupError("no ring signs tokens here")
        return self._ring

    @property
    def form(self) -> Mapping[str, str]:
        """The parameters."""
        return self._parameters


class Server(AuthorizationServer):
    """Apps are rows, prove themselves by our rules, and what is refused is raised."""

    def query_client(self, client_id: str) -> Client | None:
        """The app of this id, if there is one that is open."""
        app = apps.find_app(client_id)
        return Client(app) if app else None

    def authenticate_client(self, request: Request, *_: Any) -> Client:
        """The app that has proved itself already."""
        return Client(request.proven)

    def send_signal(self, *_: Any, **__: Any) -> None:
        """Nobody listens."""


class S256(CodeChallenge):
    """PKCE by S256 alone, for every app."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Raise Authlib's ``InvalidRequestError`` for a request without a challenge, or with another kind."""
        if not grant.request.payload.data.get("code_challenge_method"):
            raise InvalidRequestError("PKCE is required: code_challenge, with code_challenge_method S256.")
        super().validate_code_challenge(grant, redirect_uri)


class CodeGrant(AuthorizationCodeGrant):
    """From a user's consent to tokens, by a code."""

    def generate_authorization_code(self) -> str:
        """A code that names the organisation whose rows must be asked."""
        code, _ = sessions.new_token(self.request.user.organization_id)
        return code

    def save_authorization_code(self, code: str, request: Request) -> None:
        """Keep what the user let the app do, for a minute."""
        now, given = clock.now(), request.payload.data
        _, digest = sessions.read_token(code)
        db.session.execute(SWEEP, {"before": now - KEPT})
        row = AuthorizationCode(
            digest=digest,
            app_id=request.proven.id,
            user_id=request.user.user_id,
            redirect_uri=request.payload.redirect_uri,
            scopes=request.payload.scope.split(),
            code_challenge=given["code_challenge"],
            patient_id=UUID(given["patient"]) if given.get("patient") else None,
            second_factor=request.user.second_factor,
            expires_at=now + CODE_LIFETIME,
        )
        db.session.add(row)
        db.session.flush()

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode | None:
        """The code, if it is the app's and good. Raises ``GrantReused``, having ended what came of it before."""
        try:
            organization_id, digest = sessions.read_token(code)
        except InvalidRefreshToken:
            return None
        if organization_id != client.app.organization_id:
            return None
        query = select(AuthorizationCode).where(
            AuthorizationCode.digest == digest, AuthorizationCode.app_id == client.app.id
        )
        row = db.session.scalars(query.with_for_update()).first()
        if row and row.session_id:
            sessions.end(row.session_id, clock.now(), "code reused")
            raise GrantReused
        return row if row and clock.now() < row.expires_at else None

    def authenticate_user(self, authorization_code: AuthorizationCode) -> Actor | None:
        """Who gave the consent, as they are now; None for an account that was closed."""
        return accounts.without_sign_in(authorization_code.user_id)

    def generate_token(self, user: Actor, scope: str, **_: Any) -> dict[str, Any]:
        """Begin a sign-in of the app, and give its tokens."""
        code: AuthorizationCode = self.request.authorization_code
        lifetime = next((LIFETIMES[one] for one in LIFETIMES if one in code.scopes), tokens.LIFETIME)
        through = ThroughApp(code.app_id, tuple(code.scopes), code.patient_id, lifetime)
        started = sessions.start(
            user.organization_id, user.user_id, clock.now(), second_factor=code.second_factor, app=through
        )
        code.session_id = started.session_id
        return answer(self.request.ring, started)

    def save_token(self, token: Any) -> None:
        """It is kept already, by what it is known by."""

    def delete_authorization_code(self, authorization_code: AuthorizationCode) -> None:
        """It stays for a day, so that its reuse is noticed."""


class RefreshGrant(RefreshTokenGrant):
    """Carrying on what a user let an app do. A narrower scope is not given: the answer says which it is."""

    def authenticate_refresh_token(self, refresh_token: str) -> "Carried | None":
        """What the token carries on, having been changed for its successor. Raises ``GrantReused``."""
        try:
            started = sessions.rotate(
                refresh_token, clock.now(), authz.current_request_id(), app_id=self.request.proven.id
            )
        except RefreshTokenReused:
            raise GrantReused from None
        except InvalidRefreshToken:
            return None
        return Carried(started)

    def authenticate_user(self, refresh_token: "Carried") -> Actor | None:
        """For whom the app acts."""
        return accounts.without_sign_in(refresh_token.started.user_id)

    def issue_token(self, user: Actor, refresh_token: "Carried") -> dict[str, Any]:
        """The next tokens."""
        return answer(self.request.ring, refresh_token.started)

    def save_token(self, token: Any) -> None:
        """It is kept already, by what it is known by."""

    def revoke_old_credential(self, refresh_token: "Carried") -> None:
        """It is used up already."""


class Carried:
    """A sign-in of an app that goes on, as Authlib asks about its refresh token."""

    def __init__(self, started: Started) -> None:
        self.started = started

    def check_client(self, client: Client) -> bool:
        """Whether it is this app's, which it was asked for as."""
        return self.started.organization_id == client.app.organization_id

    def get_scope(self) -> str:
        """What the user let the app do."""
        return " ".join(self.started.scopes)


def answer(ring: KeyRing, started: Started) -> dict[str, Any]:
    """The token endpoint's answer (RFC 6749 section 5.1), with the patient in context."""
    enter(Scope(started.organization_id, started.user_id, authz.current_request_id()))
    audit.touch("session", started.session_id)
    claims = tokens.Claims(started.user_id, started.session_id, started.organization_id)
    given = {
        "access_token": tokens.issue(ring, claims, clock.now()),
        "token_type": "Bearer",
        "expires_in": int(tokens.LIFETIME.total_seconds()),
        "scope": " ".join(started.scopes),
    }
    given |= {"refresh_token": started.refresh_token} if LIFETIMES.keys() & set(started.scopes) else {}
    return given | ({"patient": str(started.patient_id)} if started.patient_id else {})


SERVER = Server()
SERVER.register_grant(CodeGrant, [S256()])
SERVER.register_grant(RefreshGrant)
