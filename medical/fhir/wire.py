"""Resources as they come in: JSON, read so that nothing of it is lost and nothing in it can break the database."""

import re
from typing import Any

from medical.platform.errors import MalformedJson, TooLarge
from medical.platform.http import LARGEST_RAW
from medical.platform.wire import NOT_JSON, ensure_names_differ
from medical.records.codec import decode
from medical.records.errors import UnreadableResource

Json = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
ESCAPED = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
"""What may be a NUL or half of a pair of surrogates, which PostgreSQL does not keep."""


def read_json(raw: bytes, most: int | None = LARGEST_RAW) -> Any:
    """The JSON of a body of ``most`` so many bytes. Raises ``TooLarge`` or ``MalformedJson``."""
    if most is not None and len(raw) > most:
        raise TooLarge
    try:
        value = decode(raw)
    except NOT_JSON:
        raise MalformedJson from None
    ensure_names_differ(raw)
    if ESCAPED.search(raw):
        _ensure_storable(value)
    return value


def read_resource(raw: bytes, type_name: str | None = None) -> Json:
    """The resource of a body. Raises what ``read_json`` raises, or ``UnreadableResource``."""
    value = read_json(raw)
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise UnreadableResource
    if type_name and value["resourceType"] != type_name:
        raise UnreadableResource("The resource is of another type than the path says.")
    return value


def _ensure_storable(value: Any) -> None:
    """Raise ``MalformedJson`` where a text has a NUL or half of a pair of surrogates."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            if "\0" in one or any("\ud800" <= character <= "\udfff" for character in one):
                raise MalformedJson("The text has a character that cannot be kept.")
        elif isinstance(one, dict):
            stack += [*one, *one.values()]
        elif isinstance(one, list):
            stack += one
