"""Scopes of SMART App Launch: which resources, whose, and what may be done with them.

Source: https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html (2.2), and of version 1 `.read`, `.write`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl

INTERACTIONS = "cruds"
"""Create, read (one, and its versions), update (and patch), delete, search (and histories of many)."""
SHAPE = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]+)\.(?P<letters>c?r?u?d?s?|read|write|\*)"
    r"(?:\?(?P<query>[\x21\x23-\x5b\x5d-\x7e]+))?"
)
FORMER = {"read": "rs", "write": "cud", "*": INTERACTIONS}
EVERY = "*"


class Scope(NamedTuple):
    """What one scope allows."""

    context: str
    """``patient``: the one that was chosen at the launch; ``user``, ``system``: whatever the caller may see."""
    type: str
    letters: str
    query: str = ""
    """Search parameters that a resource must fit, as in a URL."""

    def __str__(self) -> str:
        return f"{self.context}/{self.type}.{self.letters}" + (f"?{self.query}" if self.query else "")

    @property
    def criteria(self) -> list[tuple[str, str]]:
        """The search parameters that a resource must fit."""
        return parse_qsl(self.query, keep_blank_values=True)


def parsed(text: str) -> Scope | None:
    """The scope of resources that a word says; None where it says none."""
    match = SHAPE.fullmatch(text)
    if not match or not match["letters"]:
        return None
    letters = FORMER.get(match["letters"], match["letters"])
    return Scope(match["context"], match["type"], letters, match["query"] or "")


def parsed_all(texts: Iterable[str]) -> list[Scope]:
    """The scopes of resources among the words."""
    return [one for text in texts if (one := parsed(text))]


def within(asked: Sequence[str], allowed: Collection[str]) -> list[str]:
    """As much of what is asked for as is allowed, as words: of scopes of resources what both have in common."""
    may = parsed_all(allowed)
    granted: dict[str, None] = {}
    for text in asked:
        if scope := parsed(text):
            granted |= dict.fromkeys(str(both) for one in may if (both := _both(scope, one)))
        elif text in allowed:
            granted[text] = None
    return [*granted]


def _both(first: Scope, second: Scope) -> Scope | None:
    """What two scopes have in common."""
    types = {first.type, second.type} - {EVERY} or {EVERY}
    letters = "".join(one for one in INTERACTIONS if one in first.letters and one in second.letters)
    if first.context != second.context or len(types) > 1 or not letters:
        return None
    queries = dict.fromkeys(one for one in (first.query, second.query) if one)
    return Scope(first.context, types.pop(), letters, "&".join(queries))
