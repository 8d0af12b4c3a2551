"""Who calls, and what their roles allow. The table of roles itself is ``medical.access``."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flask import g, has_request_context, request

from medical.platform.errors import Forbidden
from medical.platform.scopes import EVERY, Scope


@dataclass(frozen=True, slots=True)
class App:
    """The app through which a caller acts, and what they let it do; SMART App Launch calls this the grant."""

    id: UUID
    scopes: tuple[Scope, ...]
    patient_id: UUID | None = None
    """The patient in context, whom alone scopes of the context `patient` are about."""

    def scopes_for(self, letters: str, type_name: str | None = None) -> list[Scope]:
        """The scopes that allow one of these interactions, with that type or with any."""
        return [
            one
            for one in self.scopes
            if set(letters) & set(one.letters) and (type_name is None or one.type in (EVERY, type_name))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The caller: a plain value, safe to keep after the session closes."""

    user_id: UUID
    organization_id: UUID
    session_id: UUID | None
    email: str
    roles: frozenset[str]
    authenticated_at: datetime
    """When they last proved who they are."""
    second_factor: bool = False
    """Whether they did so with a second factor too."""
    second_factor_due: bool = False
    """Whether a role of theirs demands a second factor that this sign-in lacks."""
    second_factor_required: bool = False
    """Whether a role of theirs demands a second factor at all."""
    scopes: frozenset[str] | None = None
    """The permissions this sign-in is narrowed to; None: whatever the roles allow."""
    app: App | None = None
    """The app through which they act, which narrows what they reach; None: they call themselves."""


_permissions_of_role: dict[str, frozenset[str]] = {}


def use_policy(table: Mapping[str, frozenset[str]]) -> None:
    """Make ``table`` (role → permissions) the policy of the program."""
    _permissions_of_role.clear()
    _permissions_of_role.update(table)


def permissions_of(role: str) -> frozenset[str]:
    """What a role allows."""
    return _permissions_of_role.get(role, frozenset())


def known_permissions() -> frozenset[str]:
    """Every permission that some role has."""
    return frozenset().union(*_permissions_of_role.values())


def permissions(actor: Actor) -> frozenset[str]:
    """Everything the actor's roles allow together, within the scopes of the sign-in."""
    allowed: frozenset[str] = frozenset().union(*map(permissions_of, actor.roles))
    return allowed if actor.scopes is None else allowed & actor.scopes


def holds(actor: Actor, permission: str) -> bool:
    """Whether any of the actor's roles allows ``permission``, and the scopes of the sign-in do."""
    if actor.scopes is not None and permission not in actor.scopes:
        return False
    return any(permission in permissions_of(role) for role in actor.roles)


def ensure_holds(actor: Actor, permission: str) -> None:
    """Raise ``Forbidden`` unless a role of the actor allows ``permission``, and the scopes of the sign-in do."""
    if not holds(actor, permission):
        raise Forbidden(
            f"Neither your roles nor the scopes of your token allow {permission}."
            if actor.scopes is not None
            else f"None of your roles allows {permission}."
        )


def ensure_app_may(actor: Actor, letters: str, type_name: str | None = None) -> None:
    """Raise ``Forbidden`` where the caller acts through an app none of whose scopes allows any of the interactions.

    With none named, no app may.
    """
    if actor.app is None:
        return
    if not letters:
        raise Forbidden("An app's token is good for FHIR alone, and not for this of it.")
    if not actor.app.scopes_for(letters, type_name):
        raise Forbidden("No scope of the app's token allows this.")


def current_actor() -> Actor:
    """The caller of the present request; a programming error on a public route."""
    actor = find_actor()
    if actor is None:
        raise LookupError("this route is public: it has no actor")
    return actor


def find_actor() -> Actor | None:
    """The caller of the present request, if there is a request and it has one."""
    actor: Actor | None = g.get("actor") if has_request_context() else None
    return actor


def changes_self() -> None:
    """Say that this request changes the caller's own account, having made sure, under a lock, that it may."""
    g.changes_self = True


def current_request_id() -> str | None:
    """The id of the present request, if there is one."""
    return g.request_id if has_request_context() else None


def current_source() -> str | None:
    """The network address the present request came from, if there is one."""
    return request.remote_addr if has_request_context() else None
