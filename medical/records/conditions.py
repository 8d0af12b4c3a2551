"""Conditions that name a resource by a search: for writes that should find it, and for references to it."""

from urllib.parse import parse_qsl, urlencode

from medical.platform.authz import Actor
from medical.platform.db import db
from medical.records.criteria import Searcher
from medical.records.errors import SeveralMatch, UnknownParameter
from medical.records.models import Resource
from medical.records.service import COLUMNS, Stored


def turn_of(type_name: str, query: str) -> str:
    """What whoever writes by a condition takes a turn at, however the condition is spelled; see ``turns.lock``."""
    return f"{type_name}?{urlencode(sorted(_pairs(query)))}"


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.lstrip("?"), keep_blank_values=True, max_num_fields=50)
    except ValueError:
        raise UnknownParameter("A condition has at most 50 parameters.") from None


def match(actor: Actor, type_name: str, query: str) -> Stored | None:
    """The one resource of a type that fits a query, of those the actor sees; None if there is none.

    Raises ``SeveralMatch``, or ``UnknownParameter`` for a query that asks for nothing, or for what there is not.
    """
    searcher = Searcher(actor)
    asked = _pairs(query)
    conditions = [searcher.condition(type_name, name, value) for name, value in asked if value]
    found = [one for one in conditions if one is not None]
    if not found or len(found) < len(asked):
        raise UnknownParameter("A condition must ask for something, by parameters that there are.")
    rows = db.session.execute(searcher.ids_of(type_name, found, *COLUMNS).order_by(Resource.id).limit(2)).all()
    if len(rows) > 1:
        raise SeveralMatch
    return Stored._make(rows[0]) if rows else None
