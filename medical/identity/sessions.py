"""Sign-ins: begun by a login, carried on by refresh tokens that work once, ended at once."""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text, true, update

from medical.audit import service as audit
from medical.identity.errors import InvalidRefreshToken, RefreshTokenReused
from medical.identity.limits import limits_of
from medical.identity.models import AuthSession, RefreshToken
from medical.platform.db import Scope, db, enter
from medical.platform.ids import new_id

LIFETIME = timedelta(hours=12)
"""From login to the latest end of the sign-in, however often it is refreshed."""

CLIENT_LIFETIME = timedelta(minutes=5)
"""Of a service client's sign-in, which is its one access token (SMART App Launch 2.2)."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

ORGANIZATION_BYTES, SECRET_BYTES = 16, 32


class Started(Struct, frozen=True):
    """A sign-in with the refresh token to carry it on."""

    organization_id: UUID
    session_id: UUID
    user_id: UUID
    refresh_token: str
    scopes: tuple[str, ...] = ()
    """Of an app's."""
    patient_id: UUID | None = None
    """Whom the app was launched for."""


SWEEP = text(
    """
    WITH over AS (
        SELECT id FROM auth_session WHERE user_id = :user_id AND expires_at < :before
        ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED
    ), tokens AS (
        DELETE FROM refresh_token t USING over WHERE t.session_id = over.id
    )
    DELETE FROM auth_session s USING over WHERE s.id = over.id
    """
)
"""Some of the user's sign-ins that are long over, and their tokens, which nobody could use; the trail stays."""
KEPT = timedelta(days=1)
"""How long a sign-in is kept after its end."""


def _sweep(user_id: UUID, now: datetime) -> None:
    db.session.execute(SWEEP, {"user_id": user_id, "before": now - KEPT})


class ThroughApp(Struct, frozen=True):
    """What a user let an app do for them."""

    app_id: UUID
    scopes: tuple[str, ...]
    patient_id: UUID | None
    lifetime: timedelta


def start(
    organization_id: UUID,
    user_id: UUID,
    now: datetime,
    *,
    second_factor: bool = False,
    app: ThroughApp | None = None,
) -> Started:
    """Begin a sign-in of the user, who has just given what it takes; or of an app that acts for them.

    That of an app is never fresh enough for a sensitive act.
    """
    _sweep(user_id, now)
    session = AuthSession(
        user_id=user_id,
        created_at=now,
        expires_at=now + (app.lifetime if app else LIFETIME),
        last_used_at=now,
        authenticated_at=NEVER if app else now,
        second_factor=second_factor,
        scopes=[*app.scopes] if app else None,
        app_id=app.app_id if app else None,
        patient_id=app.patient_id if app else None,
    )
    db.session.add(session)
    db.session.flush()
    token, digest = new_token(organization_id)
    db.session.add(RefreshToken(session_id=session.id, generation=1, digest=digest, created_at=now))
    db.session.flush()
    scopes, patient_id = (app.scopes, app.patient_id) if app else ((), None)
    return Started(organization_id, session.id, user_id, token, scopes, patient_id)


ROTATE = text(
    """
    WITH live AS (
        SELECT s.id, s.user_id, s.created_at, s.last_used_at, s.app_id, s.patient_id, s.scopes,
               ARRAY(SELECT role FROM role_grant g WHERE g.user_id = s.user_id) AS roles
        FROM auth_session s
        JOIN refresh_token t ON t.session_id = s.id
        JOIN users u ON u.id = s.user_id
        WHERE t.digest = :digest AND s.ended_at IS NULL AND s.expires_at > :now AND u.active
          AND s.app_id IS NOT DISTINCT FROM CAST(:app_id AS uuid)
        FOR UPDATE OF s
    ), used AS (
        UPDATE refresh_token t SET used_at = :now FROM live
        WHERE t.digest = :digest AND t.session_id = live.id AND t.used_at IS NULL
        RETURNING t.organization_id, t.session_id, t.generation, live.*
    ), successor AS (
        INSERT INTO refresh_token (id, organization_id, session_id, generation, digest, created_at)
        SELECT :id, organization_id, session_id, generation + 1, :successor, :now FROM used
    )
    SELECT session_id, user_id, created_at, last_used_at, roles, app_id, patient_id, scopes FROM used
    """
)
"""Use a token and make its successor, if and only if nobody used it and the sign-in lives.

The row of the sign-in is locked first, as by whatever ends it: so ending wins over a refresh under way.
"""

FIND = text(
    "SELECT t.session_id, t.used_at, s.user_id FROM refresh_token t"
    " JOIN auth_session s ON s.id = t.session_id"
    " WHERE t.digest = :digest AND s.app_id IS NOT DISTINCT FROM CAST(:app_id AS uuid)"
)


def rotate(refresh_token: str, now: datetime, request_id: str | None, app_id: UUID | None = None) -> Started:
    """Exchange a refresh token of a person, or of an app, for its successor.

    That is no use of the sign-in: a client that only refreshes does not keep it from being idle.
    Raises ``RefreshTokenReused``, having ended the sign-in, when the token was used before, and
    ``InvalidRefreshToken`` when it is unknown or its sign-in is over.
    """
    organization_id, digest = read_token(refresh_token)
    enter(Scope(organization_id, None, request_id))
    token, successor = new_token(organization_id)
    values = {"digest": digest, "successor": successor, "id": new_id(), "now": now, "app_id": app_id}
    if rotated := db.session.execute(ROTATE, values).first():
        enter(Scope(organization_id, rotated.user_id, request_id))
        within = app_id or limits_of(rotated.roles).allow(rotated.created_at, rotated.last_used_at, now)
        if not within:
            audit.touch("session", rotated.session_id)
            raise InvalidRefreshToken
        return Started(
            organization_id, rotated.session_id, rotated.user_id, token, tuple(rotated.scopes or ()), rotated.patient_id
        )
    found = db.session.execute(FIND, {"digest": digest, "app_id": app_id}).first()
    if found is None:
        enter(None)  # the token is not ours, so what it says of its organisation counts for nothing
        raise InvalidRefreshToken
    audit.touch("session", found.session_id)
    audit.touch("user", found.user_id)
    if found.used_at is None:
        raise InvalidRefreshToken
    end(found.session_id, now, "refresh token reused")
    raise RefreshTokenReused


def start_client(client_id: UUID, scopes: Iterable[str], now: datetime) -> UUID:
    """Begin a service client's sign-in, which nothing carries on; its id.

    No person proved who they are, so it is never fresh enough for a sensitive act.
    """
    _sweep(client_id, now)
    session = AuthSession(
        user_id=client_id,
        created_at=now,
        expires_at=now + CLIENT_LIFETIME,
        authenticated_at=NEVER,
        second_factor=False,
        scopes=sorted(scopes),
    )
    db.session.add(session)
    db.session.flush()
    return session.id


NOTED = timedelta(minutes=1)
"""How often it is noted that a sign-in is used."""

NOTE_USE = text(
    """
    UPDATE auth_session SET last_used_at = :now WHERE id IN (
        SELECT id FROM auth_session WHERE id = :id AND last_used_at <= :due AND ended_at IS NULL
        FOR NO KEY UPDATE SKIP LOCKED
    )
    """
)
"""Waits for nobody: whoever holds the row is using the sign-in, or ending it."""


def note_use(session_id: UUID, last_used_at: datetime, now: datetime) -> None:
    """Note that a sign-in is used, once a minute, and commit that, whatever becomes of the request.

    For the beginning of a request, when nothing else was written and nothing is locked.
    """
    if now - last_used_at >= NOTED:
        db.session.execute(NOTE_USE, {"id": session_id, "due": now - NOTED, "now": now})
        db.session.commit()


def end_one(user_id: UUID, session_id: UUID, now: datetime, reason: str) -> bool:
    """End a sign-in of the user; whether they have such a one that was not over."""
    ended = db.session.execute(
        update(AuthSession)
        .where(
            AuthSession.id == session_id,
            AuthSession.user_id == user_id,
            AuthSession.ended_at.is_(None),
            AuthSession.expires_at > now,
        )
        .values(ended_at=now, end_reason=reason)
        .returning(AuthSession.id)
    )
    return ended.first() is not None


def end(session_id: UUID, now: datetime, reason: str) -> None:
    """End a sign-in; its access and refresh tokens are refused from the commit on."""
    db.session.execute(
        update(AuthSession)
        .where(AuthSession.id == session_id, AuthSession.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
    )


def end_of_app(app_id: UUID, now: datetime, reason: str) -> None:
    """End whatever users let the app do."""
    db.session.execute(
        update(AuthSession)
        .where(AuthSession.app_id == app_id, AuthSession.ended_at.is_(None))
        .values(ended_at=now, end_reason=reason)
    )


def end_all(user_id: UUID, now: datetime, reason: str, *, but: UUID | None = None) -> None:
    """End every sign-in of the user, ``but`` for one that may stay."""
    others = AuthSession.id != but if but else true()
    db.session.execute(
        update(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.ended_at.is_(None), others)
        .values(ended_at=now, end_reason=reason)
    )


def prove(session_id: UUID, now: datetime) -> None:
    """Note that password, and second factor where there is one, were given again."""
    db.session.execute(update(AuthSession).where(AuthSession.id == session_id).values(authenticated_at=now))


def note_second_factor(session_id: UUID, given: bool) -> None:
    """Note whether the sign-in has its second factor."""
    db.session.execute(update(AuthSession).where(AuthSession.id == session_id).values(second_factor=given))


def new_token(organization_id: UUID) -> tuple[str, bytes]:
    """A new opaque token and its digest; it names the organisation whose rows must be asked."""
    token = urlsafe_b64encode(organization_id.bytes + secrets.token_bytes(SECRET_BYTES)).decode()
    return token, sha256(token.encode()).digest()


def read_token(token: str) -> tuple[UUID, bytes]:
    """The organisation that a token names, and its digest. Raises ``InvalidRefreshToken`` for what is none."""
    try:
        raw = urlsafe_b64decode(token.encode())
    except ValueError:
        raise InvalidRefreshToken from None
    if len(raw) != ORGANIZATION_BYTES + SECRET_BYTES:
        raise InvalidRefreshToken
    return UUID(bytes=raw[:ORGANIZATION_BYTES]), sha256(token.encode()).digest()
