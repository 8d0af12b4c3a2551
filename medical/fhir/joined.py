"""Answers put together from documents as they are kept, without reading them."""

from collections.abc import Sequence
from typing import Any

import msgspec

from medical.platform.http import own_address
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


def bundle_of(head: Json, entries: Sequence[bytes]) -> bytes:
    """A Bundle of these entries; FHIR has no empty lists."""
    text = msgspec.json.encode({"resourceType": "Bundle"} | head)
    return text[:-1] + b',"entry":[' + b",".join(entries) + b"]}" if entries else text
