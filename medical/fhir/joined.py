"""Answers put together from documents as they are kept, without reading them."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from medical.platform.http import own_address
from medical.records.codec import encode
from medical.records.errors import UnknownParameter
from medical.records.search import Key
from medical.records.service import Stored

BASE = "/fhir/R4"
Json = dict[str, Any]


def address_of(stored: Stored) -> str:
    """Where a resource is read."""
    return f"{own_address()}{BASE}/{stored.type}/{stored.fhir_id}"


def entry_of(about: Json, document: bytes | None) -> bytes:
    """An entry of a Bundle: what is said of a resource, and the resource where there is one."""
    text = msgspec.json.encode(about)
    return text if document is None else text[:-1] + b',"resource":' + document + b"}"


def found_entry(stored: Stored, mode: str, document: bytes | None = None) -> bytes:
    """An entry of what was found, or of what goes with it; with all of it, unless less is given."""
    shown = (stored.body or "").encode() if document is None else document
    return entry_of({"fullUrl": address_of(stored), "search": {"mode": mode}}, shown)


def made_entry(document: Json) -> bytes:
    """An entry of what was found and is made of rows."""
    place = f"{own_address()}{BASE}/{document['resourceType']}/{document['id']}"
    return entry_of({"fullUrl": place, "search": {"mode": "match"}}, encode(document))


def link_of(relation: str, path: str, query: Sequence[tuple[str, str]]) -> Json:
    """A link of a page: to itself, or to the next."""
    url = f"{own_address()}{BASE}/{path}"
    return {"relation": relation, "url": f"{url}?{urlencode(query)}" if query else url}


def bundle_of(head: Json, entries: Sequence[bytes]) -> bytes:
    """A Bundle of these entries; FHIR has no empty lists."""
    text = msgspec.json.encode({"resourceType": "Bundle"} | head)
    return text[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else text


def cursor_of(key: Key) -> str:
    """Where the next page begins, as a part of an address."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def read_cursor(text: str | None) -> Key | None:
    """Where a page begins. Raises ``UnknownParameter`` for what no page ended with."""
    if not text:
        return None
    try:
        key = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Key)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise UnknownParameter("There is no such page.") from None
    if any("\0" in one for one in key if one):
        raise UnknownParameter("There is no such page.")
    return key
