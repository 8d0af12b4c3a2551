"""Proxies over HTTP."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.people import proxies
from medical.people.errors import (
    NoPatientAccount,
    NotYours,
    ProxyDecided,
    ProxyExists,
    SharedContact,
    ToOneself,
    TooYoung,
)
from medical.people.models import PatientProxy
from medical.people.permissions import Permission
from medical.people.proxy_schemas import ProposeProxy, ProxyOut, RevokeProxy
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

of_patient = Blueprint("proxies", __name__, url_prefix="/api/v1/patients/<uuid:patient_id>/proxies")
own = Blueprint("own_proxies", __name__, url_prefix="/api/v1/me/proxies")


@endpoint(
    of_patient.post(""),
    permission=Permission.PROXY_PROPOSE,
    body=ProposeProxy,
    returns=(201, ProxyOut),
    errors=[NoPatientAccount, NotYours, ProxyExists, SharedContact, ToOneself, TooYoung],
    audit=Action.PROXY_PROPOSED,
    idempotent=True,
)
def propose_proxy(patient_id: UUID, body: ProposeProxy) -> ProxyOut:
    """Name somebody to act for a patient.

    A grown-up patient's own word holds at once; what the desk proposes, with proof, waits for a second person.
    """
    return ProxyOut.of(proxies.propose_proxy(current_actor(), patient_id, **body.arguments()))


@endpoint(
    of_patient.get(""),
    permission=Permission.PROXY_READ,
    query=PageQuery,
    returns=(200, Page[ProxyOut]),
    audit=Action.PROXY_READ,
)
def list_proxies(patient_id: UUID, query: PageQuery) -> Page[ProxyOut]:
    """List who acts, acted or may come to act for a patient, newest first, then by id."""
    rows = proxies.list_proxies(
        current_actor(), patient_id, query.limit, read_cursor(query.cursor, tuple[datetime, UUID])
    )
    return page_of(rows, query.limit, ProxyOut.of, _key)


@endpoint(
    of_patient.post("/<uuid:proxy_id>/approve"),
    permission=Permission.PROXY_APPROVE,
    returns=(200, ProxyOut),
    errors=[ProxyDecided, ToOneself],
    audit=Action.PROXY_APPROVED,
    step_up=True,
)
def approve_proxy(patient_id: UUID, proxy_id: UUID) -> ProxyOut:
    """Approve what somebody else proposed, having seen the proof."""
    return ProxyOut.of(proxies.approve_proxy(current_actor(), patient_id, proxy_id))


@endpoint(
    of_patient.post("/<uuid:proxy_id>/revoke"),
    permission=Permission.PROXY_REVOKE,
    body=RevokeProxy,
    returns=(200, ProxyOut),
    errors=[NotYours, ProxyDecided],
    audit=Action.PROXY_REVOKED,
)
def revoke_proxy(patient_id: UUID, proxy_id: UUID, body: RevokeProxy) -> ProxyOut:
    """End it; it holds no more from the next request on, for this patient only."""
    return ProxyOut.of(proxies.revoke_proxy(current_actor(), patient_id, proxy_id, body.reason))


@endpoint(
    own.get(""),
    permission=Permission.PROXY_READ,
    query=PageQuery,
    returns=(200, Page[ProxyOut]),
    audit=Action.PROXY_READ,
)
def list_own_proxies(query: PageQuery) -> Page[ProxyOut]:
    """List for whom the caller acts, acted or may come to act, newest first, then by id."""
    rows = proxies.own_proxies(current_actor(), query.limit, read_cursor(query.cursor, tuple[datetime, UUID]))
    return page_of(rows, query.limit, ProxyOut.of, _key)


def _key(proxy: PatientProxy) -> tuple[datetime, UUID]:
    return proxy.proposed_at, proxy.id
