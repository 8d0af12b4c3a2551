"""Which app, or which service client, calls the endpoints of OAuth, and how it proves that."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import select

from medical.audit import service as audit
from medical.identity import grants
from medical.identity.clients import address_of
from medical.identity.errors import InvalidClient
from medical.identity.service import Access
from medical.platform import authz
from medical.platform.db import Scope, db, enter
from medical.smart import apps
from medical.smart.models import SmartApp


def prove_app(
    access: Access, authorization: str | None, given: Mapping[str, str | None], audiences: Collection[str]
) -> SmartApp:
    """The app that calls, as it stays until the transaction ends; from here on its organisation's rows are seen.

    An app without secret and keys says who it is, and no more: its code and PKCE prove the rest. Raises
    ``InvalidTokenRequest``, ``InvalidClient`` whatever is wrong, and ``TooManyAttempts``.
    """
    shows = authorization or given["client_secret"] or given["client_assertion"] or given["client_assertion_type"]
    if not shows and given["client_id"] is None:
        raise InvalidClient
    credentials = grants.read_credentials(authorization, **given) if shows else None
    client_id = credentials.client_id if credentials else given["client_id"] or ""
    attempt = access.throttle.count(address_of(client_id)) if credentials else None
    found = apps.find_app(client_id)
    if found is None:
        raise InvalidClient
    app_id = found.id
    enter(Scope(found.organization_id, None, authz.current_request_id()))
    audit.touch("smart-app", app_id)
    app = db.session.scalars(select(SmartApp).where(SmartApp.id == app_id).with_for_update(read=True)).first()
    if app is None or not app.active or bool(app.secret_digest or app.jwks) != bool(credentials):
        raise InvalidClient
    if credentials and attempt:
        grants.ensure_proven(app, credentials, audiences)
        access.throttle.succeed(attempt)
    return app


def prove_any(
    access: Access, authorization: str | None, given: Mapping[str, str | None], audiences: Collection[str]
) -> tuple[UUID, UUID]:
    """Id and organisation of the confidential app or service client that calls.

    Raises what ``prove_app`` raises.
    """
    credentials = grants.read_credentials(authorization, **given)
    if apps.find_app(credentials.client_id):
        app = prove_app(access, authorization, given, audiences)
        return app.id, app.organization_id
    client = grants.prove(access, credentials, audiences)
    return client.id, client.organization_id
