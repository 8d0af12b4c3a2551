"""What a token is good for, and its end."""

from typing import Any
from uuid import UUID

import jwt
from sqlalchemy import text

from medical.audit import service as audit
from medical.identity import sessions, tokens
from medical.identity.errors import InvalidRefreshToken
from medical.identity.keys import KeyRing
from medical.platform import clock
from medical.platform.db import db
from medical.platform.errors import Unauthenticated
from medical.smart.models import SmartApp

LIVE = text(
    """
    SELECT s.user_id, s.app_id, s.patient_id, s.scopes FROM auth_session s JOIN users u ON u.id = s.user_id
    WHERE s.id = :session_id AND s.ended_at IS NULL AND s.expires_at > :now AND u.active AND s.scopes IS NOT NULL
    """
)
OF_REFRESH = text("SELECT session_id FROM refresh_token WHERE digest = :digest")
OF_APP = text("SELECT EXISTS (SELECT FROM auth_session WHERE id = :session_id AND app_id = :app_id)")


def introspected(ring: KeyRing, token: str, caller_id: UUID, organization_id: UUID) -> dict[str, Any]:
    """What RFC 7662 says of an access token of an app or service client of this organisation.

    That it is not active is all that is said of others, and of an app's to another app.
    """
    try:
        claims = tokens.verify(ring, token)
    except Unauthenticated:
        return {"active": False}
    row = db.session.execute(LIVE, {"session_id": claims.session_id, "now": clock.now()}).first()
    if row is None or claims.organization_id != organization_id:
        return {"active": False}
    client_id = row.app_id or row.user_id
    if caller_id != client_id and db.session.get(SmartApp, caller_id):
        return {"active": False}
    audit.touch("session", claims.session_id)
    return {
        "active": True,
        "scope": " ".join(row.scopes),
        "client_id": str(client_id),
        "sub": str(row.user_id),
        "exp": jwt.decode(token, options={"verify_signature": False})["exp"],
        "patient": str(row.patient_id) if row.patient_id else None,
    }


def revoke(ring: KeyRing, token: str, app: SmartApp) -> None:
    """End the sign-in of the app that an access or refresh token is of; nothing for any other token."""
    session_id = _session_of(ring, token)
    if session_id and db.session.scalar(OF_APP, {"session_id": session_id, "app_id": app.id}):
        audit.touch("session", session_id)
        sessions.end(session_id, clock.now(), "revoked by the app")


def _session_of(ring: KeyRing, token: str) -> UUID | None:
    """The sign-in that a token is of, if it is one of ours."""
    try:
        return tokens.verify(ring, token).session_id
    except Unauthenticated:
        pass
    try:
        _, digest = sessions.read_token(token)
    except InvalidRefreshToken:
        return None
    found: UUID | None = db.session.scalar(OF_REFRESH, {"digest": digest})
    return found
