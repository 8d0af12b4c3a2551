"""Tokens for service clients: who asks, how they prove it, and what the token is good for (RFC 6749, 4.4)."""

import hmac
from base64 import b64decode
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID

from msgspec import Struct

from medical.audit import service as audit
from medical.identity import assertions, queries, sessions, tokens
from medical.identity.clients import address_of, digest_of
from medical.identity.errors import InvalidClient, InvalidScope, InvalidTokenRequest
from medical.identity.permissions import grantable
from medical.identity.service import Access
from medical.platform import authz, clock
from medical.platform.db import Scope, db, enter
from medical.platform.scopes import parsed, within

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Secret(Struct, frozen=True):
    """A client shows its secret."""

    client_id: str
    secret: str


class Signature(Struct, frozen=True):
    """A client shows something it signed."""

    client_id: str
    assertion: str


class Granted(Struct, frozen=True):
    """A token, and what it is good for."""

    access_token: str
    scopes: list[str]


def read_credentials(
    authorization: str | None,
    *,
    client_id: str | None,
    client_secret: str | None,
    client_assertion_type: str | None,
    client_assertion: str | None,
) -> Secret | Signature:
    """Who asks, by the one method they chose.

    Raises ``InvalidTokenRequest`` for several methods at once or half of one, and ``InvalidClient`` for none.
    """
    signed = client_assertion or client_assertion_type
    methods = [method for method in (authorization, client_secret, signed) if method is not None]
    if len(methods) > 1:
        raise InvalidTokenRequest("Prove who you are by one method only.")
    given: Secret | Signature
    if authorization is not None:
        given = _read_basic(authorization)
    elif signed is not None:
        if client_assertion_type != ASSERTION_TYPE or client_assertion is None:
            raise InvalidTokenRequest(f"Send client_assertion with client_assertion_type {ASSERTION_TYPE}.")
        given = Signature(assertions.claimed_client(client_assertion), client_assertion)
    elif client_id is not None and client_secret is not None:
        given = Secret(client_id, client_secret)
    else:
        raise InvalidClient
    if client_id not in (None, given.client_id):
        raise InvalidTokenRequest("client_id is another client's than the one that proves itself.")
    return given


def _read_basic(authorization: str) -> Secret:
    """Id and secret, each form-encoded within HTTP's Basic scheme (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise InvalidTokenRequest("A client's Authorization is of the scheme Basic.")
    try:
        client_id, colon, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        raise InvalidClient from None
    if not colon:
        raise InvalidClient
    return Secret(client_id, secret)


def grant(
    access: Access, credentials: Secret | Signature, asked: Collection[str], audiences: Collection[str]
) -> Granted:
    """A token for the client that proves itself, good for what it asks, or for all it may ask when it asks nothing.

    Raises ``TooManyAttempts`` before any client is looked up; ``InvalidClient`` whatever is wrong; ``InvalidScope``
    when more is asked than the client may.
    """
    now = clock.now()
    client = prove(access, credentials, audiences)
    may = [one for one in client.scopes if one in grantable() or parsed(one)]
    scopes = within([*dict.fromkeys(asked)], may) if asked else may
    if not scopes or set(scopes) != {str(parsed(one) or one) for one in asked or may}:
        raise InvalidScope
    session_id = sessions.start_client(client.id, scopes, now)
    claims = tokens.Claims(client.id, session_id, client.organization_id)
    return Granted(tokens.issue(access.ring, claims, now, sessions.CLIENT_LIFETIME), sorted(scopes))


def prove(access: Access, credentials: Secret | Signature, audiences: Collection[str]) -> Any:
    """The service client, as it stays until the transaction ends, whose credentials these are.

    Raises ``TooManyAttempts`` before it is looked up, and ``InvalidClient`` whatever is wrong.
    """
    client_id = _id_of(credentials)
    attempt = access.throttle.count(address_of(client_id))
    account = queries.find_account(address_of(client_id))
    if account is None:
        raise InvalidClient
    enter(Scope(account.organization_id, None, authz.current_request_id()))
    audit.touch("service-client", client_id)
    client = db.session.execute(queries.CLIENT_HELD, {"client_id": client_id}).first()
    if client is None or not client.active:
        raise InvalidClient
    ensure_proven(client, credentials, audiences)
    enter(Scope(client.organization_id, client.id, authz.current_request_id()))
    access.throttle.succeed(attempt)
    return client


def _id_of(credentials: Secret | Signature) -> UUID:
    """The id as we write ids; whatever else is given is nobody's."""
    try:
        client_id = UUID(credentials.client_id)
    except ValueError:
        raise InvalidClient from None
    if str(client_id) != credentials.client_id:
        raise InvalidClient
    return client_id


def ensure_proven(client: Any, credentials: Secret | Signature, audiences: Collection[str]) -> None:
    """Raise ``InvalidClient`` unless the credentials are the client's; from now on a signed assertion is used."""
    if isinstance(credentials, Secret):
        _ensure_secret(client, credentials.secret)
    else:
        _use_assertion(client, credentials, audiences)


def _ensure_secret(client: Any, secret: str) -> None:
    if client.secret_digest is None or not hmac.compare_digest(client.secret_digest, digest_of(secret)):
        raise InvalidClient


def _use_assertion(client: Any, given: Signature, audiences: Collection[str]) -> None:
    """See that the assertion is good and was never used; from now on it was."""
    if client.jwks is None:
        raise InvalidClient
    now = clock.now()
    good = assertions.verify(given.assertion, str(client.id), client.jwks["keys"], audiences, now)
    values = {
        "organization_id": client.organization_id,
        "client_id": client.id,
        "digest": good.digest,
        "expires_at": good.expires_at,
        "now": now,
    }
    if db.session.execute(queries.USE_ASSERTION, values).first() is None:
        raise InvalidClient
