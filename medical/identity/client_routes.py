"""Service clients and their tokens over HTTP."""

from uuid import UUID

from flask import Blueprint, Response, current_app, request

from medical.audit.events import Action
from medical.identity import assertions, clients, grants, service, sessions
from medical.identity.client_schemas import (
    CLIENT_CREDENTIALS,
    CreateServiceClient,
    MetadataOut,
    NewSecretOut,
    ServiceClientOut,
    TokenOut,
    TokenRequest,
    UpdateServiceClient,
)
from medical.identity.errors import (
    ClientClosed,
    ClientHasKeys,
    InvalidClient,
    InvalidScope,
    InvalidTokenRequest,
    UnsupportedGrantType,
)
from medical.identity.permissions import Permission, grantable
from medical.platform.authz import current_actor
from medical.platform.errors import TooManyAttempts
from medical.platform.http import endpoint, own_address
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

service_clients = Blueprint("service-clients", __name__, url_prefix="/api/v1/service-clients")
oauth = Blueprint("oauth", __name__)

KEYS_PATH = "/.well-known/jwks.json"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - an address, not a token
METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]


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


@endpoint(
    oauth.post(TOKEN_PATH),
    form=TokenRequest,
    returns=(200, TokenOut),
    errors=[InvalidTokenRequest, UnsupportedGrantType, InvalidClient, InvalidScope, TooManyAttempts],
    audit=Action.SERVICE_CLIENT_SIGNED_IN,
)
def issue_token(form: bytes) -> TokenOut:
    """Get an access token for a service client.

    What OAuth 2 has a word for is refused in its shape, `{error, error_description}` (RFC 6749 section 5.2);
    here and nowhere else. Whatever is not about the grant is a problem document, as everywhere.
    """
    asked = TokenRequest.read(form)
    credentials = grants.read_credentials(request.headers.get("Authorization"), **asked.credentials())
    access: service.Access = current_app.extensions["access"]
    granted = grants.grant(access, credentials, asked.scopes, {own_address(), own_address() + TOKEN_PATH})
    return TokenOut(
        access_token=granted.access_token,
        token_type="Bearer",  # noqa: S106 - the type of token, not a token
        expires_in=int(sessions.CLIENT_LIFETIME.total_seconds()),
        scope=" ".join(granted.scopes),
    )


@endpoint(oauth.get("/.well-known/oauth-authorization-server"), returns=(200, MetadataOut))
def show_metadata() -> MetadataOut:
    """What the token endpoint can do, for programs (RFC 8414)."""
    return MetadataOut(
        issuer=own_address(),
        token_endpoint=own_address() + TOKEN_PATH,
        jwks_uri=own_address() + KEYS_PATH,
        token_endpoint_auth_methods_supported=METHODS,
        token_endpoint_auth_signing_alg_values_supported=[*assertions.ALGORITHMS],
        grant_types_supported=[CLIENT_CREDENTIALS],
        response_types_supported=[],
        scopes_supported=sorted(grantable()),
    )


@oauth.after_request
def _forbid_keeping(response: Response) -> Response:
    """What RFC 6749 section 5.1 asks for, besides the `no-store` that every answer has."""
    response.headers["Pragma"] = "no-cache"
    return response
