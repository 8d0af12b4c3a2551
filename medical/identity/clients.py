"""Service clients: programs that call in their own name, with no more than the scopes they were given."""

import secrets
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy.orm.attributes import flag_modified

from medical.audit import service as audit
from medical.identity import queries, sessions
from medical.identity.errors import ClientClosed, ClientHasKeys
from medical.identity.models import RoleGrant, ServiceClient, User
from medical.identity.permissions import Role
from medical.identity.service import ensure_version
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import NotFound
from medical.platform.ids import new_id

SECRET_BYTES = 32

Keys = dict[str, Any]
"""A JWK set (RFC 7517) of public keys."""


def address_of(client_id: object) -> str:
    """The email of the client's account: in a domain that is nobody's (RFC 2606), so no mail and no person."""
    return f"{client_id}@service-clients.invalid".lower()


def digest_of(secret: str) -> bytes:
    """What is kept of a secret; it has 256 bits, so nobody finds it by trying."""
    return sha256(secret.encode()).digest()


def create(actor: Actor, *, name: str, scopes: Iterable[str], jwks: Keys | None) -> tuple[ServiceClient, str | None]:
    """A new client, and the secret that it proves itself with unless it has keys; the secret is nowhere else."""
    client_id = new_id()
    secret = None if jwks else secrets.token_urlsafe(SECRET_BYTES)
    user = User(
        id=client_id,
        email=address_of(client_id),
        given_name="Service",
        family_name="Client",
        active=True,
        roles=[RoleGrant(role=Role.SERVICE, granted_by=actor.user_id)],
    )
    client = ServiceClient(
        id=client_id,
        name=name,
        scopes=sorted(set(scopes)),
        secret_digest=digest_of(secret) if secret else None,
        jwks=jwks,
        created_by=actor.user_id,
        created_at=clock.now(),
        user=user,
    )
    db.session.add(client)
    db.session.flush()
    audit.touch("service-client", client.id)
    return client, secret


def list_clients(limit: int, after: tuple[str, UUID] | None) -> Sequence[ServiceClient]:
    """Clients by name, one more than ``limit`` when more follow."""
    return db.session.scalars(queries.service_clients(after).limit(limit + 1)).all()


def get_client(client_id: UUID, *, lock: bool = False) -> ServiceClient:
    """A client of the caller's organisation. Raises ``NotFound``."""
    query = queries.service_clients().where(ServiceClient.id == client_id)
    client = db.session.scalars(query.with_for_update(of=ServiceClient) if lock else query).first()
    if client is None:
        raise NotFound
    audit.touch("service-client", client.id)
    return client


def update(client_id: UUID, expected_version: int | None, changes: dict[str, Any]) -> ServiceClient:
    """Change name, scopes or keys; keys take the place of a secret. Its tokens end unless only the name changes.

    Raises ``NotFound``, ``Stale`` or ``ClientClosed``.
    """
    client = _open_client(client_id, expected_version)
    if "name" in changes:
        client.name = changes["name"]
    if "scopes" in changes:
        client.scopes = sorted(set(changes["scopes"]))
    if "jwks" in changes:
        client.jwks, client.secret_digest = changes["jwks"], None
    if changes.keys() - {"name"}:
        sessions.end_all(client.id, clock.now(), "client changed")
    db.session.flush()
    return client


def rotate_secret(client_id: UUID, expected_version: int | None) -> tuple[ServiceClient, str]:
    """Another secret for the client; the old one and its tokens are void.

    Raises ``NotFound``, ``Stale``, ``ClientClosed`` or ``ClientHasKeys``.
    """
    client = _open_client(client_id, expected_version)
    if client.jwks:
        raise ClientHasKeys
    secret = secrets.token_urlsafe(SECRET_BYTES)
    client.secret_digest = digest_of(secret)
    sessions.end_all(client.id, clock.now(), "secret rotated")
    db.session.flush()
    return client, secret


def deactivate(client_id: UUID, expected_version: int | None) -> ServiceClient:
    """Close the client: its tokens are refused from now on. Raises ``NotFound`` or ``Stale``."""
    client = get_client(client_id, lock=True)
    ensure_version(client.version, expected_version)
    if client.user.active:
        client.user.active = False
        flag_modified(client, "name")  # so that the version counts this change too
        sessions.end_all(client.id, clock.now(), "deactivated")
        db.session.flush()
    return client


def _open_client(client_id: UUID, expected_version: int | None) -> ServiceClient:
    """The client, locked: no token of it is under way. Raises ``NotFound``, ``Stale`` or ``ClientClosed``."""
    client = get_client(client_id, lock=True)
    ensure_version(client.version, expected_version)
    if not client.user.active:
        raise ClientClosed
    return client
