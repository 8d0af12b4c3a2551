"""What is done with accounts and sign-ins."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm.attributes import flag_modified

from medical.audit import service as audit
from medical.identity import directory, passwords, queries, sessions, tokens
from medical.identity import otp as second_factors
from medical.identity.errors import (
    EmailTaken,
    InvalidCredentials,
    LastAdmin,
    OrganizationExists,
    OtpRequired,
    OwnRoles,
    RegistrationClosed,
)
from medical.identity.keys import KeyRing
from medical.identity.limits import limits_of
from medical.identity.models import AuthSession, Organization, RoleGrant, User
from medical.identity.otp import Enrolment, SecondFactors
from medical.identity.permissions import Permission, Role
from medical.identity.throttle import Throttle, Try
from medical.platform import authz, clock
from medical.platform.authz import Actor, App
from medical.platform.db import Scope, db, enter, flush_or_raise, scope_organization
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound, Stale, Unauthenticated
from medical.platform.ids import new_id
from medical.platform.scopes import parsed_all
from medical.platform.wire import Email, Text, shape_problems

SIGN_IN_OVER = "This sign-in is over; sign in again."
EMAIL_TAKEN = {"uq_users_email": EmailTaken}


class TokenPair(Struct, frozen=True):
    """What a client needs to call and to go on calling."""

    access_token: str
    refresh_token: str


class Access(Struct, frozen=True):
    """What sign-in stands on in this process."""

    ring: KeyRing
    throttle: Throttle
    factors: SecondFactors
    otp_roles: frozenset[str]
    """The roles that demand a second factor."""


def authenticate(access: Access, token: str) -> Actor:
    """The caller behind an access token; from here on the transaction sees their organisation's rows.

    Session, account and roles are looked up now, so that logout, deactivation, a change of roles and the limits
    of the sign-in hold from the next request on. Raises ``Unauthenticated``, the same whatever is wrong.
    """
    claims = tokens.verify(access.ring, token)
    enter(Scope(claims.organization_id, claims.user_id, authz.current_request_id()))
    row = _live(claims)
    if row is None:
        enter(None)
        raise Unauthenticated
    sessions.note_use(claims.session_id, row.last_used_at, clock.now())
    actor = _actor(row, claims)
    required = bool((actor.roles - {Role.SERVICE}) & access.otp_roles)  # a program has no second factor
    due = required and not actor.second_factor
    return replace(actor, second_factor_required=required, second_factor_due=due)


def is_active(user_id: UUID) -> bool:
    """Whether there is such an account in the present organisation, and it was not closed."""
    return bool(db.session.scalar(select(User.active).where(User.id == user_id)))


def without_sign_in(user_id: UUID) -> Actor | None:
    """A person of the present organisation as they would act now, for what they left to others; or None."""
    user = db.session.scalars(queries.users().where(User.id == user_id)).first()
    if user is None or not user.active:
        return None
    roles = frozenset(grant.role for grant in user.roles) - {Role.SERVICE}
    return Actor(
        user_id=user.id,
        organization_id=user.organization_id,
        session_id=None,
        email=user.email,
        roles=roles,
        authenticated_at=user.created_at,
    )


def hold(actor: Actor) -> Actor:
    """The caller as they are now; until the transaction ends nobody can sign them out or change their roles.

    Raises ``Unauthenticated`` when the sign-in ended meanwhile.
    """
    if actor.session_id is None:
        return actor
    claims = tokens.Claims(actor.user_id, actor.session_id, actor.organization_id)
    row = _live(claims, hold=True)
    if row is None:
        raise Unauthenticated(SIGN_IN_OVER)
    return _actor(row, claims)


def _live(claims: tokens.Claims, *, hold: bool = False) -> Any:
    """The sign-in and its user as they are now, or None when it is over, or past the limits of their roles."""
    now = clock.now()
    values = {
        "session_id": claims.session_id,
        "user_id": claims.user_id,
        "organization_id": claims.organization_id,
        "key_id": claims.key_id,
        "now": now,
    }
    row = db.session.connection().exec_driver_sql(queries.CALLER_HELD if hold else queries.CALLER, values).first()
    if row is None:
        return None
    within = row.scopes is not None or limits_of(row.roles).allow(row.created_at, row.last_used_at, now)
    return row if within else None


def _actor(row: Any, claims: tokens.Claims) -> Actor:
    app = _app(row)
    roles, scopes = _power(frozenset(row.roles), row.scopes, app)
    return Actor(
        user_id=row.id,
        organization_id=claims.organization_id,
        session_id=claims.session_id,
        email=row.email,
        roles=roles,
        authenticated_at=row.authenticated_at,
        second_factor=row.second_factor,
        scopes=scopes,
        app=app,
    )


def _app(row: Any) -> App | None:
    """The app that acts in a sign-in, for a user or, as a service client with SMART scopes, by itself."""
    found = parsed_all(row.scopes or ())
    return App(row.app_id or row.id, tuple(found), row.patient_id) if row.app_id or found else None


def _power(
    roles: frozenset[str], scopes: Sequence[str] | None, app: App | None
) -> tuple[frozenset[str], frozenset[str] | None]:
    """The roles that count in a sign-in, and the permissions that it is narrowed to.

    The role `service` is a client's, by its token alone; a person who has no other can see who they are, and sign out.
    """
    if app and roles == {Role.SERVICE}:
        return roles, None
    if scopes is not None and not app:
        return roles, frozenset(scopes)
    if roles == {Role.SERVICE}:
        return roles, frozenset({Permission.SESSION_OWN})
    return roles - {Role.SERVICE}, None


def login(access: Access, *, email: str, password: str, otp: str | None = None) -> TokenPair:
    """Begin a sign-in. Raises what ``prove`` raises."""
    person = prove(access, email=email, password=password, otp=otp)
    begun = sessions.start(person.organization_id, person.user_id, clock.now(), second_factor=person.second_factor)
    return _pair(access.ring, begun)


class Person(Struct, frozen=True):
    """Somebody who has just proved who they are."""

    organization_id: UUID
    user_id: UUID
    second_factor: bool


def prove(access: Access, *, email: str, password: str, otp: str | None = None) -> Person:
    """Whose email and password these are; from here on the transaction sees their organisation's rows.

    Raises ``TooManyAttempts`` before anything is looked up; ``InvalidCredentials``, in the same time whatever is
    wrong; and, for the right password only, ``OtpRequired`` where the account has a second factor.
    """
    attempt = access.throttle.count(email)
    account = queries.find_account(email.lower())
    db.session.rollback()  # hashing takes long: let others have the connection meanwhile
    known = passwords.matches(password, account.password_hash if account else None)
    if account:
        enter(Scope(account.organization_id, None, authz.current_request_id()))
        audit.touch("user", account.id)
    if not account or not known or not account.active:
        raise InvalidCredentials
    enter(Scope(account.organization_id, account.id, authz.current_request_id()))
    return Person(account.organization_id, account.id, _pass(access, attempt, account, password, otp))


def _pass(access: Access, attempt: Try, account: Any, password: str, otp: str | None) -> bool:
    """See that the account is still as it was when its password fitted; whether a second factor was given.

    Raises ``InvalidCredentials``, ``OtpRequired`` or ``TooManyAttempts``.
    """
    user_id = account.id
    held = _held(account, password)
    if held.enrolled:
        access.throttle.succeed(attempt, remember=False)
        attempt = Try(attempt.keys, known=True)  # its failures are forgotten; what follows knows the network
        if otp is None:
            raise OtpRequired
        access.throttle.count_otp(user_id)
        held = _held(account, password)
        if not access.factors.accepts(user_id, otp, clock.now()):
            raise InvalidCredentials
        access.throttle.succeed_otp(user_id)
    if passwords.is_outdated(held.password_hash):
        _set_password(user_id, password)
    access.throttle.succeed(attempt)
    return bool(held.enrolled)


def _held(account: Any, password: str) -> Any:
    """The account, locked. Raises ``InvalidCredentials`` when it was closed, or got another password, meanwhile."""
    held = db.session.execute(queries.HELD, {"user_id": account.id}).one()
    same = held.password_hash == account.password_hash or passwords.matches(password, held.password_hash)
    if not held.active or not same:
        raise InvalidCredentials
    return held


def _set_password(user_id: UUID, password: str) -> None:
    values = {"user_id": user_id, "password_hash": passwords.hash_password(password)}
    db.session.execute(queries.SET_PASSWORD, values)


def step_up(access: Access, actor: Actor, *, password: str, otp: str | None) -> datetime:
    """Prove again who one is; when that was. Raises as ``login`` does."""
    _prove(access, actor, password, otp)
    now = clock.now()
    sessions.prove(_own_session(actor), now)
    return now


def change_password(access: Access, actor: Actor, *, current_password: str, new_password: str) -> None:
    """Choose another password; every other sign-in of the user ends.

    Raises ``InvalidCredentials``, ``TooManyAttempts``, or ``InvalidRequest`` for one that is easily guessed.
    """
    session_id = _own_session(actor)
    attempt = access.throttle.count(actor.email)
    account = _password_of(actor, current_password)
    names = [account.given_name, account.family_name, account.email, account.organization_name]
    _ensure_impersonal(new_password, names, "/new_password")
    access.throttle.succeed(attempt)
    _set_password(actor.user_id, new_password)
    sessions.end_all(actor.user_id, clock.now(), "password changed", but=session_id)
    hold(actor)


def _prove(access: Access, actor: Actor, password: str, otp: str | None) -> None:
    _own_session(actor)
    attempt = access.throttle.count(actor.email)
    _pass(access, attempt, _password_of(actor, password), password, otp)
    hold(actor)


def _password_of(actor: Actor, password: str) -> Any:
    """The caller's account, locked, whose password this is. Raises ``InvalidCredentials``."""
    audit.touch("user", actor.user_id)
    account = db.session.execute(queries.HELD, {"user_id": actor.user_id}).first()
    if account is None or not passwords.matches(password, account.password_hash):
        raise InvalidCredentials
    return account


def _own_session(actor: Actor) -> UUID:
    """The caller's sign-in. Raises ``InvalidCredentials`` for who has none, as service clients."""
    if actor.session_id is None:
        raise InvalidCredentials
    return actor.session_id


def begin_otp(access: Access, actor: Actor) -> Enrolment:
    """Begin the enrolment of a second factor. Raises ``OtpEnrolled``."""
    audit.touch("user", actor.user_id)
    enrolment = access.factors.begin(actor.user_id, actor.email, clock.now())
    hold(actor)
    return enrolment


def confirm_otp(access: Access, actor: Actor, otp: str) -> list[str]:
    """Enrol the second factor; recovery codes. This sign-in has it from now on, every other one ends.

    Raises ``OtpNotEnrolled``, ``OtpEnrolled``, ``InvalidOtp`` or ``TooManyAttempts``.
    """
    session_id = _own_session(actor)
    audit.touch("user", actor.user_id)
    access.throttle.count_otp(actor.user_id)
    db.session.execute(queries.HELD, {"user_id": actor.user_id})
    codes = access.factors.confirm(actor.user_id, otp, clock.now())
    access.throttle.succeed_otp(actor.user_id)
    sessions.note_second_factor(session_id, True)
    sessions.end_all(actor.user_id, clock.now(), "second factor enrolled", but=session_id)
    hold(actor)
    return codes


def renew_recovery_codes(access: Access, actor: Actor) -> list[str]:
    """New recovery codes; the old ones are void. Raises ``OtpNotEnrolled``."""
    codes = access.factors.renew_codes(actor.user_id)
    hold(actor)
    return codes


def remove_otp(actor: Actor) -> None:
    """Remove one's own second factor; who has a role that demands one must then enrol anew.

    Every other sign-in ends. Raises ``OtpNotEnrolled``.
    """
    reset_otp(actor, actor.user_id)
    hold(actor)


def reset_otp(actor: Actor, user_id: UUID) -> None:
    """Remove a second factor that was lost; the user's sign-ins end. Raises ``NotFound`` or ``OtpNotEnrolled``."""
    get_user(user_id, lock=True)
    second_factors.remove(user_id)
    own = actor.session_id if user_id == actor.user_id else None
    if own:
        sessions.note_second_factor(own, False)
    sessions.end_all(user_id, clock.now(), "second factor removed", but=own)


def refresh(ring: KeyRing, *, refresh_token: str) -> TokenPair:
    """Carry a sign-in on. Raises ``RefreshTokenReused`` or ``InvalidRefreshToken``."""
    started = sessions.rotate(refresh_token, clock.now(), authz.current_request_id())
    audit.touch("user", started.user_id)
    return _pair(ring, started)


def logout(actor: Actor) -> None:
    """End the caller's sign-in."""
    if actor.session_id:
        sessions.end(actor.session_id, clock.now(), "logout")
    audit.touch("user", actor.user_id)


def list_sessions(
    user_id: UUID, roles: Iterable[str], limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[AuthSession]:
    """Live sign-ins of a user with these roles, newest first, one more than ``limit`` when more follow."""
    audit.touch("user", user_id)
    query = queries.sessions(user_id, limits_of(roles), clock.now())
    if after:
        query = queries.sessions_after(query, after)
    return db.session.scalars(query.limit(limit + 1)).all()


def end_session(actor: Actor, session_id: UUID) -> None:
    """End one of the caller's sign-ins, the present one too. Raises ``NotFound``."""
    audit.touch("user", actor.user_id)
    audit.touch("session", session_id)
    if not sessions.end_one(actor.user_id, session_id, clock.now(), "ended by the user"):
        raise NotFound
    if session_id != actor.session_id:
        hold(actor)


def end_sessions(actor: Actor, user_id: UUID) -> None:
    """End all sign-ins of a user, whom an administrator signs out. Raises ``NotFound``."""
    user = get_user(user_id, lock=True)
    if user.id == actor.user_id:
        _ensure_unchanged(actor, user)
    sessions.end_all(user.id, clock.now(), "ended by an administrator")


def _pair(ring: KeyRing, started: sessions.Started) -> TokenPair:
    claims = tokens.Claims(started.user_id, started.session_id, started.organization_id)
    return TokenPair(tokens.issue(ring, claims, clock.now()), started.refresh_token)


def registration_scope() -> Scope | None:
    """The scope of the organisation that people who register themselves belong to, if there is one."""
    query = select(Organization.id).where(Organization.self_registration)
    organization_id = db.session.scalars(query).first()
    return Scope(organization_id, None, authz.current_request_id()) if organization_id else None


def enter_registration() -> None:
    """Work as the organisation that takes registrations. Raises ``RegistrationClosed``."""
    scope = registration_scope()
    if scope is None:
        raise RegistrationClosed
    enter(scope)


def create_user(
    *,
    email: str,
    given_name: str,
    family_name: str,
    roles: Iterable[Role],
    password: str | None = None,
    granted_by: UUID | None = None,
) -> User:
    """A new account in the present organisation.

    Raises ``EmailTaken``, or ``InvalidRequest`` for a password with the person's or the organisation's name in it.
    """
    if password:
        organization = db.session.scalars(select(Organization.name).where(Organization.id == scope_organization()))
        _ensure_impersonal(password, [given_name, family_name, email, *organization])
    user = User(
        id=new_id(),
        email=email.lower(),
        given_name=given_name,
        family_name=family_name,
        password_hash=passwords.hash_password(password) if password else None,
        active=True,
        roles=[RoleGrant(role=role, granted_by=granted_by) for role in sorted(set(roles))],
    )
    db.session.add(user)
    flush_or_raise(EMAIL_TAKEN)
    audit.touch("user", user.id)
    return user


def create_admin(*, organization_name: str, email: str, password: str, given_name: str, family_name: str) -> User:
    """An administrator of the organisation of this name, which is made when it is new.

    The first organisation of an installation takes registrations. Raises ``InvalidRequest`` or ``EmailTaken``.
    """
    given = {"email": email, "password": password, "given_name": given_name, "family_name": family_name}
    kinds = {"email": Email, "password": passwords.NewPassword, "given_name": Text, "family_name": Text}
    if problems := [one for name, kind in kinds.items() for one in shape_problems(given[name], kind, f"/{name}")]:
        raise InvalidRequest(problems)
    ensure_organization(organization_name)
    user = create_user(
        email=email, given_name=given_name, family_name=family_name, roles=[Role.ADMIN], password=password
    )
    audit.record("user.created", "success")
    return user


def ensure_organization(name: str) -> UUID:
    """Enter the organisation of this name, making it when it is new; its id."""
    db.session.execute(queries.LOCK_ORGANIZATIONS)
    db.session.execute(queries.NAME_ORGANIZATION, {"name": name})
    found = db.session.scalars(select(Organization.id).where(Organization.name == name)).first()
    if found:
        enter(Scope(found))
        return found
    first = registration_scope() is None
    organization_id = new_id()
    enter(Scope(organization_id))
    db.session.add(Organization(id=organization_id, name=name, self_registration=first))
    flush_or_raise({"uq_organization_name": OrganizationExists})
    directory.tell(organization_id)
    return organization_id


def list_users(limit: int, after: tuple[str, str, UUID] | None) -> Sequence[User]:
    """Accounts in the order of names, one more than ``limit`` when more follow."""
    query = queries.users_after(after) if after else queries.users()
    return db.session.scalars(query.limit(limit + 1)).all()


def get_user(user_id: UUID, *, lock: bool = False) -> User:
    """An account of the caller's organisation. Raises ``NotFound``."""
    query = queries.users().where(User.id == user_id)
    if lock:
        query = query.with_for_update(of=User)
    user = db.session.scalars(query).first()
    if user is None:
        raise NotFound
    audit.touch("user", user.id)
    return user


def update_user(user_id: UUID, expected_version: int | None, changes: dict[str, str]) -> User:
    """Change names or email of an account. Raises ``NotFound``, ``Stale`` or ``EmailTaken``."""
    user = get_user(user_id, lock=True)
    ensure_version(user.version, expected_version)
    for name, value in changes.items():
        setattr(user, name, value.lower() if name == "email" else value)
    flush_or_raise(EMAIL_TAKEN)
    directory.tell(user.id)
    return user


def change_roles(actor: Actor, user_id: UUID, expected_version: int | None, roles: Iterable[Role]) -> User:
    """Give a user exactly these roles. Raises ``NotFound``, ``Stale``, ``OwnRoles`` or ``LastAdmin``."""
    _lock_admins()
    user = get_user(user_id, lock=True)
    ensure_version(user.version, expected_version)
    wanted = {str(role) for role in roles}
    if user.id == actor.user_id:
        _ensure_unchanged(actor, user)
    if wanted == {grant.role for grant in user.roles}:
        return user
    user.roles = [grant for grant in user.roles if grant.role in wanted] + [
        RoleGrant(role=role, granted_by=actor.user_id) for role in sorted(wanted - {grant.role for grant in user.roles})
    ]
    flag_modified(user, "active")  # so that the version counts this change too
    db.session.flush()
    _ensure_admin_left()
    if user.id == actor.user_id and wanted - actor.roles:
        raise OwnRoles
    return user


def grant_role(user: User, role: Role) -> None:
    """Add a role to a user's, whose roles are loaded."""
    if role not in {grant.role for grant in user.roles}:
        user.roles.append(RoleGrant(role=role))
        flag_modified(user, "active")  # so that the version counts this change too
        db.session.flush()


def _ensure_impersonal(password: str, names: Iterable[str], pointer: str = "/password") -> None:
    """Raise ``InvalidRequest`` for a password that has one of the names in it."""
    if problem := passwords.personal_problem(password, names):
        raise InvalidRequest([FieldProblem(pointer, problem)])


def _ensure_unchanged(actor: Actor, user: User) -> None:
    """Raise ``Unauthenticated`` when somebody else changed the caller's own account, now locked, meanwhile."""
    if not user.active or {grant.role for grant in user.roles} != actor.roles:
        raise Unauthenticated(SIGN_IN_OVER)
    authz.changes_self()


def deactivate_user(actor: Actor, user_id: UUID, expected_version: int | None) -> User:
    """Close an account: its sign-ins end at once. Raises ``NotFound``, ``Stale`` or ``LastAdmin``."""
    _lock_admins()
    user = get_user(user_id, lock=True)
    ensure_version(user.version, expected_version)
    if user.id == actor.user_id:
        _ensure_unchanged(actor, user)
    if user.active:
        user.active = False
        sessions.end_all(user.id, clock.now(), "deactivated")
        db.session.flush()
        _ensure_admin_left()
        directory.tell(user.id)
    return user


def ensure_version(version: int, expected: int | None) -> None:
    """Raise ``Stale`` when the caller's change is based on another version."""
    if expected is not None and expected != version:
        raise Stale


def _lock_admins() -> None:
    """Let changes of who is administrator follow one another, so that two cannot remove each other."""
    own = select(Organization.id).where(Organization.id == scope_organization())
    db.session.execute(own.with_for_update(key_share=True))


def _ensure_admin_left() -> None:
    if queries.active_admins() == 0:
        raise LastAdmin
