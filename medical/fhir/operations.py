"""Operations on one patient over HTTP. Source: https://hl7.org/fhir/R4/operations.html."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.fhir.joined import BASE, Json, bundle_of, cursor_of, found_entry, link_of, read_cursor
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, Query, ensure_json
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.platform.idempotency import Answer
from medical.records import search
from medical.records.criteria import span_asked
from medical.records.errors import UnknownParameter
from medical.records.everything import Wanted, everything
from medical.records.permissions import Permission

bp = Blueprint("fhir-operations", __name__, url_prefix=BASE)


@endpoint(
    bp.get("/Patient/<fhir_id:fhir_id>/$everything"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_READ,
)
def show_everything(fhir_id: str, query: Query) -> Answer:
    """Read all of a patient's record that the caller may see, and who and what it speaks of.

    Takes `_type`, `_since`, `start` and `end` (of care), and `_count`, without which a page has 1,000.
    """
    ensure_json(query)
    given = dict(query)
    page = everything(current_actor(), fhir_id, _wanted(given))
    entries = [found_entry(one, "match") for one in page.matches]
    entries += [found_entry(one, "include") for one in page.included]
    place = f"Patient/{fhir_id}/$everything"
    heeded = [(name, value) for name, value in query if name in ("_type", "_since", "start", "end", "_count")]
    links = [link_of("self", place, heeded)]
    if page.more:
        links.append(link_of("next", place, [*heeded, ("_cursor", cursor_of([str(page.more)]))]))
    whole = page.more is None and "_cursor" not in given
    head = {"type": "searchset", "link": links} | ({"total": len(page.matches)} if whole else {})
    return Answer(200, {}, bundle_of(head, entries))


def _wanted(given: dict[str, str]) -> Wanted:
    """How much is asked for. Raises ``UnknownParameter``."""
    return Wanted(
        size=max(1, search.size_of(given["_count"])) if "_count" in given else search.MOST,
        types=[one for one in given.get("_type", "").split(",") if one],
        since=_moment(given, "_since", 0),
        start=_moment(given, "start", 0),
        end=_moment(given, "end", 1),
        after=_after(given.get("_cursor")),
    )


def _moment(given: dict[str, str], name: str, end: int) -> datetime | None:
    """The first moment of a date that was given, or the first after it."""
    return span_asked(given[name])[end] if given.get(name) else None


def _after(cursor: str | None) -> UUID | None:
    key = read_cursor(cursor)
    try:
        return UUID(key[0]) if key else None
    except (TypeError, ValueError, IndexError):
        raise UnknownParameter("There is no such page.") from None
