"""Searches over HTTP. Source: https://hl7.org/fhir/R4/http.html#search."""

from collections.abc import Iterable, Iterator

from flask import Blueprint, request

from medical.audit.events import Action
from medical.fhir.joined import BASE, Json, bundle_of, cursor_of, found_entry, link_of, read_cursor
from medical.fhir.outcome import FHIR
from medical.fhir.routes import OF_TYPE, Query, ensure_known, form_of
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound, UnsupportedMediaType
from medical.platform.http import endpoint
from medical.platform.idempotency import Answer
from medical.records import search, service
from medical.records.codec import decode, encode
from medical.records.definitions import summary_elements, table
from medical.records.errors import Gone, UnknownParameter
from medical.records.permissions import Permission
from medical.records.search import Page, Question
from medical.records.service import Stored

bp = Blueprint("fhir-search", __name__, url_prefix=BASE)

CURSOR = "_cursor"
OF_RESULT = {
    "_sort",
    "_count",
    "_total",
    "_summary",
    "_elements",
    "_include",
    "_revinclude",
    "_include:iterate",
    "_revinclude:iterate",
    "_format",
    "_pretty",
    CURSOR,
}
"""Parameters that say what is wanted of what is found."""
SUMMARIES = {"true", "text", "data", "count", "false"}
ALWAYS = {"resourceType", "id", "meta"}


@endpoint(
    bp.get("/<fhir_type:type_name>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnknownParameter],
    audit=Action.RECORD_SEARCHED,
    smart="s",
)
def find(type_name: str, query: Query) -> Answer:
    """Search resources of a type; the answer is a page of those that the caller may see.

    What is no search parameter is left out, and the `self` link says so; with `Prefer: handling=strict` it is refused.
    """
    ensure_known(type_name, query)
    return Answer(200, {}, found_bundle(type_name, query))


@endpoint(
    bp.post("/<fhir_type:type_name>/_search"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, UnsupportedMediaType, UnknownParameter],
    audit=Action.RECORD_SEARCHED,
    smart="s",
)
def find_by_form(type_name: str, query: Query, body: bytes) -> Answer:
    """The same with the parameters in a form, which no log keeps."""
    ensure_known(type_name, query)
    return Answer(200, {}, found_bundle(type_name, [*query, *form_of(body)]))


@endpoint(
    bp.get("/<fhir_type:owner_type>/<fhir_id:owner_id>/<fhir_type:type_name>"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, Gone, UnknownParameter],
    audit=Action.RECORD_SEARCHED,
    smart="s",
)
def find_in_compartment(owner_type: str, owner_id: str, type_name: str, query: Query) -> Answer:
    """Search resources of a type that belong to one patient, encounter, practitioner, device or relative."""
    return _in_compartment(owner_type, owner_id, type_name, query)


@endpoint(
    bp.post("/<fhir_type:owner_type>/<fhir_id:owner_id>/<fhir_type:type_name>/_search"),
    permission=Permission.RECORD_READ,
    raw=True,
    returns=(200, Json),
    media_type=FHIR,
    errors=[*OF_TYPE, Gone, UnsupportedMediaType, UnknownParameter],
    audit=Action.RECORD_SEARCHED,
    smart="s",
)
def find_in_compartment_by_form(owner_type: str, owner_id: str, type_name: str, query: Query, body: bytes) -> Answer:
    """The same with the parameters in a form."""
    return _in_compartment(owner_type, owner_id, type_name, [*query, *form_of(body)])


def _in_compartment(owner_type: str, owner_id: str, type_name: str, query: Query) -> Answer:
    ensure_known(type_name, query)
    if type_name not in table("compartments").get(owner_type, ()):
        raise NotFound
    owner = service.read(current_actor(), owner_type, owner_id)
    return Answer(200, {}, found_bundle(type_name, query, (owner.type, owner.fhir_id)))


def found_bundle(type_name: str, query: Query, compartment: tuple[str, str] | None = None) -> bytes:
    """The page that is asked for, as a Bundle. Raises ``UnknownParameter``."""
    question = _question(type_name, query)._replace(compartment=compartment)
    page = search.search(current_actor(), question)
    if page.ignored and "handling=strict" in request.headers.get("Prefer", ""):
        raise UnknownParameter(f"There is no parameter {', '.join(sorted(set(page.ignored)))[:200]} here.")
    return _bundle("/".join([*(compartment or ()), type_name]), query, page)


def _question(type_name: str, query: Query) -> Question:
    """What is asked for. Raises ``UnknownParameter``."""
    given = dict(query)
    if given.get("_summary", "false") not in SUMMARIES:
        raise UnknownParameter(f"`_summary` is one of {', '.join(sorted(SUMMARIES))}.")
    only_count = given.get("_summary") == "count"
    return Question(
        type=type_name,
        criteria=[(name, value) for name, value in query if name not in OF_RESULT],
        sort=[one for one in given.get("_sort", "").split(",") if one],
        size=0 if only_count else search.size_of(given.get("_count")),
        after=read_cursor(given.get(CURSOR)),
        total=given.get("_total") in ("accurate", "estimate") or only_count,
        include=list(_rules(query, "_include")),
        revinclude=list(_rules(query, "_revinclude")),
    )


def _rules(query: Query, name: str) -> Iterator[str]:
    for key, value in query:
        if key == name:
            yield value
        elif key == f"{name}:iterate":
            yield f"iterate:{value}"


def _bundle(path: str, query: Query, page: Page) -> bytes:
    """The page as a Bundle; its links name what was heeded of what was asked for."""
    heeded = [(name, value) for name, value in query if name not in page.ignored]
    links = [link_of("self", path, heeded)]
    if page.more:
        rest = [(name, value) for name, value in heeded if name != CURSOR]
        links.append(link_of("next", path, [*rest, (CURSOR, cursor_of(page.more))]))
    head: Json = {"type": "searchset", "link": links}
    if page.total is not None:
        head["total"] = page.total
    given = dict(query)
    entries = [*_entries(page.matches, "match", given), *_entries(page.included, "include", given)]
    return bundle_of(head, entries)


def _entries(found: Iterable[Stored], mode: str, given: dict[str, str]) -> Iterator[bytes]:
    for one in found:
        yield found_entry(one, mode, _shown(one, given))


def _shown(stored: Stored, given: dict[str, str]) -> bytes:
    """The document, or as much of it as `_elements` or `_summary` ask for, which is then marked."""
    body = (stored.body or "").encode()
    elements, summary = given.get("_elements"), given.get("_summary", "false")
    if not elements and summary in ("false", "count"):
        return body
    document = decode(body)
    if elements:
        wanted = ALWAYS | set(elements.split(","))
        less = {name: value for name, value in document.items() if name.lstrip("_") in wanted}
    elif summary == "data":
        less = {name: value for name, value in document.items() if name != "text"}
    else:
        wanted = ALWAYS | ({"text"} if summary == "text" else summary_elements(stored.type))
        less = {name: value for name, value in document.items() if name.lstrip("_") in wanted}
    meta = less.get("meta", {})
    subsetted = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
    less["meta"] = meta | {"tag": [*meta.get("tag", []), subsetted]}
    return encode(less)
