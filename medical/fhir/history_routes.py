"""Versions over HTTP: of a resource, of a type, of all. Source: https://hl7.org/fhir/R4/http.html#history."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.fhir.joined import BASE, Json, address_of, bundle_of, cursor_of, entry_of, link_of, read_cursor
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, Query, ensure_json, ensure_known
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.idempotency import Answer
from medical.records import history, search, service
from medical.records.errors import UnknownParameter
from medical.records.history import VersionKey
from medical.records.permissions import Permission
from medical.records.service import Stored
from medical.records.values import span_asked

bp = Blueprint("fhir-history", __name__, url_prefix=BASE)


@endpoint(
    bp.get("/<fhir_type:type_name>/<fhir_id:fhir_id>/_history"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_HISTORY_READ,
    smart="r",
)
def of_resource(type_name: str, fhir_id: str, query: Query) -> Answer:
    """Read the versions of a resource, newest first, also of one that was deleted."""
    ensure_known(type_name, query)
    now = service.find(current_actor(), type_name, fhir_id)
    return _page(f"{type_name}/{fhir_id}", query, type_name, now.id)


@endpoint(
    bp.get("/<fhir_type:type_name>/_history"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_HISTORY_READ,
    smart="s",
)
def of_type(type_name: str, query: Query) -> Answer:
    """Read the versions of all resources of a type that the caller may see, newest first."""
    ensure_known(type_name, query)
    return _page(type_name, query, type_name)


@endpoint(
    bp.get("/_history"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_HISTORY_READ,
    smart="s",
)
def of_all(query: Query) -> Answer:
    """Read the versions of all resources that the caller may see, newest first."""
    ensure_json(query)
    return _page("", query)


def _page(path: str, query: Query, type_name: str | None = None, resource_id: UUID | None = None) -> Answer:
    """A page of versions: as many as `_count` says, from `_since` on."""
    given = dict(query)
    page = history.history(
        current_actor(),
        type_name,
        resource_id=resource_id,
        since=span_asked(given["_since"])[0] if given.get("_since") else None,
        size=max(1, search.size_of(given.get("_count"))),
        after=_key(given.get("_cursor")),
    )
    place = f"{path}/_history" if path else "_history"
    heeded = [(name, given[name]) for name in ("_since", "_count") if name in given]
    links = [link_of("self", place, heeded)]
    if page.more:
        cursor = cursor_of([page.more.updated_at.isoformat(), str(page.more.id), str(page.more.version)])
        links.append(link_of("next", place, [*heeded, ("_cursor", cursor)]))
    whole = page.more is None and "_cursor" not in given
    head = {"type": "history", "link": links} | ({"total": len(page.found)} if whole else {})
    return Answer(200, {}, bundle_of(head, [_entry(one) for one in page.found]))


def _key(cursor: str | None) -> VersionKey | None:
    key = read_cursor(cursor)
    if key is None:
        return None
    try:
        updated_at, resource_id, version = (one or "" for one in key)
        return VersionKey(datetime.fromisoformat(updated_at), UUID(resource_id), int(version))
    except ValueError:
        raise UnknownParameter("There is no such page.") from None


def _entry(stored: Stored) -> bytes:
    """A version in a history, with how it came about."""
    method = "DELETE" if stored.deleted else "POST" if stored.version == 1 else "PUT"
    url = stored.type if method == "POST" else f"{stored.type}/{stored.fhir_id}"
    status = {"DELETE": "204", "POST": "201", "PUT": "200"}[method]
    about = {
        "fullUrl": address_of(stored),
        "request": {"method": method, "url": url},
        "response": {"status": status, "etag": f'W/"{stored.version}"', "lastModified": stored.updated_at.isoformat()},
    }
    return entry_of(about, stored.body.encode() if stored.body else None)
