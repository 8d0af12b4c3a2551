"""Service clients over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.identity import clients
from medical.identity.client_schemas import (
    CreateServiceClient,
    NewSecretOut,
    ServiceClientOut,
    UpdateServiceClient,
)
from medical.identity.errors import (
    ClientClosed,
    ClientHasKeys,
)
from medical.identity.permissions import Permission
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

service_clients = Blueprint("service-clients", __name__, url_prefix="/api/v1/service-clients")


@endpoint(
    service_clients.post(""),
    permission=Permission.SERVICE_CLIENT_MANAGE,
    body=CreateServiceClient,
    returns=(201, NewSecretOut),
    audit=Action.SERVICE_CLIENT_CREATED,
    idempotent=True,
    etag=True,
    step_up=True,
)
def create_client(body: CreateServiceClient) -> NewSecretOut:
    """Make a service client; its secret is told this once.

    A repeat with the same Idempotency-Key answers without the secret: whoever missed it rotates it.
    """
    keys = body.jwks.plain() if body.jwks else None
    client, secret = clients.create(current_actor(), name=body.name, scopes=body.scopes, jwks=keys)
    return NewSecretOut.of(client, client_secret=secret)


@endpoint(
    service_clients.get(""),
    permission=Permission.SERVICE_CLIENT_READ,
    query=PageQuery,
    returns=(200, Page[ServiceClientOut]),
    audit=Action.SERVICE_CLIENT_LISTED,
)
def list_clients(query: PageQuery) -> Page[ServiceClientOut]:
    """List service clients, ordered by name, id."""
    rows = clients.list_clients(query.limit, read_cursor(query.cursor, tuple[str, UUID]))
    return page_of(rows, query.limit, ServiceClientOut.of, lambda client: (client.name, client.id))


@endpoint(
    service_clients.get("/<uuid:client_id>"),
    permission=Permission.SERVICE_CLIENT_READ,
    returns=(200, ServiceClientOut),
    audit=Action.SERVICE_CLIENT_READ,
    etag=True,
)
def get_client(client_id: UUID) -> ServiceClientOut:
    """Read a service client."""
    return ServiceClientOut.of(clients.get_client(client_id))


@endpoint(
    service_clients.patch("/<uuid:client_id>"),
    permission=Permission.SERVICE_CLIENT_MANAGE,
    body=UpdateServiceClient,
    returns=(200, ServiceClientOut),
    errors=[ClientClosed],
    audit=Action.SERVICE_CLIENT_UPDATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def update_client(client_id: UUID, body: UpdateServiceClient, expected_version: int | None) -> ServiceClientOut:
    """Change name, scopes or keys of a service client; but for the name, its tokens end."""
    return ServiceClientOut.of(clients.update(client_id, expected_version, body.given()))


@endpoint(
    service_clients.post("/<uuid:client_id>/rotate-secret"),
    permission=Permission.SERVICE_CLIENT_MANAGE,
    returns=(200, NewSecretOut),
    errors=[ClientClosed, ClientHasKeys],
    audit=Action.SERVICE_CLIENT_SECRET_ROTATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def rotate_secret(client_id: UUID, expected_version: int | None) -> NewSecretOut:
    """Give a service client another secret, told this once; the old one and its tokens end."""
    client, secret = clients.rotate_secret(client_id, expected_version)
    return NewSecretOut.of(client, client_secret=secret)


@endpoint(
    service_clients.post("/<uuid:client_id>/deactivate"),
    permission=Permission.SERVICE_CLIENT_MANAGE,
    returns=(200, ServiceClientOut),
    audit=Action.SERVICE_CLIENT_DEACTIVATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def deactivate_client(client_id: UUID, expected_version: int | None) -> ServiceClientOut:
    """Close a service client for good: its tokens are refused from now on."""
    return ServiceClientOut.of(clients.deactivate(client_id, expected_version))
