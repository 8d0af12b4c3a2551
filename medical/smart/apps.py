"""What is done with apps: registered, changed, closed."""

import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, text, tuple_

from medical.audit import service as audit
from medical.identity import sessions
from medical.identity.clients import SECRET_BYTES, Keys, digest_of
from medical.identity.errors import ClientClosed
from medical.identity.service import ensure_version
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.smart.errors import NoSecret
from medical.smart.models import SmartApp

NAME_APP = text("SELECT set_config('app.smart_app', :app_id, true)")


def create(
    actor: Actor,
    *,
    name: str,
    redirect_uris: Sequence[str],
    launch_uri: str | None,
    scopes: Sequence[str],
    confidential: bool,
    jwks: Keys | None,
) -> tuple[SmartApp, str | None]:
    """A new app, and the secret of one that is confidential and has no keys; the secret is nowhere else."""
    secret = secrets.token_urlsafe(SECRET_BYTES) if confidential and not jwks else None
    app = SmartApp(
        name=name,
        redirect_uris=[*redirect_uris],
        launch_uri=launch_uri,
        scopes=[*dict.fromkeys(scopes)],
        secret_digest=digest_of(secret) if secret else None,
        jwks=jwks,
        created_by=actor.user_id,
        created_at=clock.now(),
    )
    db.session.add(app)
    db.session.flush()
    audit.touch("smart-app", app.id)
    return app, secret


def list_apps(limit: int, after: tuple[str, UUID] | None) -> Sequence[SmartApp]:
    """Apps by name, one more than ``limit`` when more follow."""
    query = select(SmartApp).order_by(SmartApp.name, SmartApp.id)
    query = query.where(tuple_(SmartApp.name, SmartApp.id) > after) if after else query
    return db.session.scalars(query.limit(limit + 1)).all()


def get_app(app_id: UUID, *, lock: bool = False) -> SmartApp:
    """An app of the caller's organisation. Raises ``NotFound``."""
    app = _found(select(SmartApp).where(SmartApp.id == app_id), lock=lock)
    if app is None:
        raise NotFound
    audit.touch("smart-app", app.id)
    return app


def find_app(client_id: str) -> SmartApp | None:
    """The app of exactly this id, in whatever organisation (the policy `sign_in` shows it), unless it is closed."""
    try:
        app_id = UUID(client_id)
    except ValueError:
        return None
    if str(app_id) != client_id:
        return None
    db.session.execute(NAME_APP, {"app_id": client_id})
    return _found(select(SmartApp).where(SmartApp.id == app_id, SmartApp.active))


def _found(query: Select[SmartApp], *, lock: bool = False) -> SmartApp | None:
    return db.session.scalars(query.with_for_update() if lock else query).first()


def update(app_id: UUID, expected_version: int | None, changes: dict[str, Any]) -> SmartApp:
    """Change an app; what users let it do ends, unless only its name or launch address changes.

    Keys take the place of a secret. Raises ``NotFound``, ``Stale`` or ``ClientClosed``.
    """
    app = _open_app(app_id, expected_version)
    for name, value in changes.items():
        setattr(app, name, value)
    if changes.get("jwks"):
        app.secret_digest = None
    if changes.keys() - {"name", "launch_uri"}:
        sessions.end_of_app(app.id, clock.now(), "app changed")
    db.session.flush()
    return app


def rotate_secret(app_id: UUID, expected_version: int | None) -> tuple[SmartApp, str]:
    """Another secret for the app; the old one is void, and what users let it do ends.

    Raises ``NotFound``, ``Stale``, ``ClientClosed`` or ``NoSecret``.
    """
    app = _open_app(app_id, expected_version)
    if app.secret_digest is None:
        raise NoSecret
    secret = secrets.token_urlsafe(SECRET_BYTES)
    app.secret_digest = digest_of(secret)
    sessions.end_of_app(app.id, clock.now(), "secret rotated")
    db.session.flush()
    return app, secret


def deactivate(app_id: UUID, expected_version: int | None) -> SmartApp:
    """Close the app for good: its tokens are refused from now on. Raises ``NotFound`` or ``Stale``."""
    app = get_app(app_id, lock=True)
    ensure_version(app.version, expected_version)
    if app.active:
        app.active = False
        sessions.end_of_app(app.id, clock.now(), "app closed")
        db.session.flush()
    return app


def _open_app(app_id: UUID, expected_version: int | None) -> SmartApp:
    """The app, locked. Raises ``NotFound``, ``Stale`` or ``ClientClosed``."""
    app = get_app(app_id, lock=True)
    ensure_version(app.version, expected_version)
    if not app.active:
        raise ClientClosed
    return app
