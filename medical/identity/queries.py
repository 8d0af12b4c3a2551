"""What sign-in and the account pages read."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, Select, func, or_, select, text, tuple_
from sqlalchemy.orm import joinedload, selectinload

from medical.identity.limits import Limits
from medical.identity.models import AuthSession, RoleGrant, ServiceClient, User
from medical.platform.db import db

SIGN_IN = """
    SELECT u.id, u.email, ARRAY(SELECT role FROM role_grant g WHERE g.user_id = u.id) AS roles,
           s.authenticated_at, s.second_factor, s.scopes, s.created_at, s.last_used_at, s.app_id, s.patient_id
    FROM auth_session s JOIN users u ON u.id = s.user_id
    WHERE s.id = %(session_id)s AND s.user_id = %(user_id)s AND s.organization_id = %(organization_id)s
      AND s.ended_at IS NULL AND s.expires_at > %(now)s AND u.active
"""
"""As the driver takes it: every request asks it."""
CALLER = f"{SIGN_IN} AND EXISTS (SELECT FROM signing_key k WHERE k.id = %(key_id)s)"
"""Who calls by a token; a key that was taken out of the ring fails at once, whatever a process still remembers."""
CALLER_HELD = f"{SIGN_IN} FOR SHARE OF s, u"
"""Who called, and until the transaction ends nobody ends the sign-in or changes account and roles."""
NAME_EMAIL = text("SELECT set_config('app.login_email', :email, true)")
NAME_ORGANIZATION = text("SELECT set_config('app.organization_name', :name, true)")
LOCK_ORGANIZATIONS = text("SELECT pg_advisory_xact_lock(hashtextextended('organizations', 0))")
"""Organisations are made one after the other, so that one of them is the first."""
ACCOUNT = text("SELECT id, organization_id, password_hash, active FROM users WHERE email = :email")

HELD = text(
    """
    SELECT u.id, u.email, u.active, u.password_hash, u.given_name, u.family_name, n.name AS organization_name,
           EXISTS (SELECT FROM otp_credential c WHERE c.user_id = u.id AND c.confirmed_at IS NOT NULL) AS enrolled
    FROM users u JOIN organization n ON n.id = u.organization_id
    WHERE u.id = :user_id FOR NO KEY UPDATE OF u
    """
)
"""An account as it is now, and as it stays until the transaction ends."""
SET_PASSWORD = text("UPDATE users SET password_hash = :password_hash WHERE id = :user_id")
"""Not a change that the account's version counts: nobody sees it, and its ETag stays good."""


def find_account(email: str) -> Row[tuple[UUID, UUID, str | None, bool]] | None:
    """The account of exactly this email, in whatever organisation (the policy `sign_in` shows it)."""
    db.session.execute(NAME_EMAIL, {"email": email})
    return db.session.execute(ACCOUNT, {"email": email}).first()


CLIENT_HELD = text(
    """
    SELECT c.id, c.organization_id, c.scopes, c.secret_digest, c.jwks, u.active
    FROM service_client c JOIN users u ON u.id = c.id
    WHERE c.id = :client_id FOR SHARE OF c, u
    """
)
"""A client as it is now; until the transaction ends nobody changes or closes it."""

USE_ASSERTION = text(
    """
    WITH swept AS (
        DELETE FROM client_assertion a USING (
            SELECT client_id, digest FROM client_assertion
            WHERE expires_at <= :now AND (client_id, digest) <> (:client_id, :digest) LIMIT 20 FOR UPDATE SKIP LOCKED
        ) old
        WHERE (a.client_id, a.digest) = (old.client_id, old.digest)
    )
    INSERT INTO client_assertion (organization_id, client_id, digest, expires_at)
    VALUES (:organization_id, :client_id, :digest, :expires_at)
    ON CONFLICT (client_id, digest) DO NOTHING RETURNING 1
    """
)
"""Keep what an assertion is known by; a row for its first use only, whoever else brings it at the same time."""


def users() -> Select[User]:
    """The accounts of people of the caller's organisation, with their roles, ordered by name."""
    people = select(User).where(User.id.not_in(select(ServiceClient.id)))
    return people.options(selectinload(User.roles)).order_by(User.family_name, User.given_name, User.id)


def service_clients(after: tuple[str, UUID] | None = None) -> Select[ServiceClient]:
    """The service clients of the caller's organisation, with their accounts, by name and id, those past ``after``."""
    order = (ServiceClient.name, ServiceClient.id)
    query = select(ServiceClient).options(joinedload(ServiceClient.user, innerjoin=True)).order_by(*order)
    return query.where(tuple_(*order) > after) if after else query


def users_after(key: tuple[str, str, UUID]) -> Select[User]:
    """The accounts that come after ``key`` in the order of ``users``."""
    return users().where(tuple_(User.family_name, User.given_name, User.id) > key)


def sessions(user_id: UUID, limits: Limits, now: datetime) -> Select[AuthSession]:
    """The user's live sign-ins, newest first."""
    query = (
        select(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.ended_at.is_(None), AuthSession.expires_at > now)
        .order_by(AuthSession.created_at.desc(), AuthSession.id.desc())
    )
    of_app = AuthSession.app_id.is_not(None)
    if limits.idle is not None:
        query = query.where(or_(of_app, AuthSession.last_used_at > now - limits.idle))
    if limits.absolute is not None:
        query = query.where(or_(of_app, AuthSession.created_at > now - limits.absolute))
    return query


def sessions_after(query: Select[AuthSession], key: tuple[datetime, UUID]) -> Select[AuthSession]:
    """Those of ``query`` that come after ``key`` in the order of ``sessions``."""
    return query.where(tuple_(AuthSession.created_at, AuthSession.id) < key)


def active_admins() -> int:
    """How many active administrators the organisation has."""
    query = (
        select(func.count())
        .select_from(RoleGrant)
        .join(User, User.id == RoleGrant.user_id)
        .where(RoleGrant.role == "admin", User.active)
    )
    return db.session.scalars(query).one()
