"""Conditions that name a resource by a search: for writes that should find it, and for references to it."""

from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import Text, cast, func, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.records.criteria import Searcher
from medical.records.errors import SeveralMatch, UnknownParameter
from medical.records.indexing import short
from medical.records.models import Resource, resource_value
from medical.records.queries import COLUMNS
from medical.records.service import Stored

Condition = tuple[str, str]
"""A type and a query."""


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


def match_many(actor: Actor, asked: Collection[Condition]) -> dict[Condition, Stored | None]:
    """What ``match`` says of each type and query: of those by one identifier, which most are, in one statement."""
    identifiers = {one: pair for one in asked if (pair := _identifier(one[1]))}
    found: dict[Condition, Stored | None] = _by_identifiers(actor, identifiers) if identifiers else {}
    return found | {one: match(actor, *one) for one in asked if one not in identifiers}


def _identifier(query: str) -> tuple[str, str] | None:
    """System and value, where the query asks for one identifier that has both."""
    parts = query.removeprefix("?").removeprefix("identifier=").split("|")
    plain = not set("&,\\%+") & set(query) and "identifier=" in query
    return (parts[0], parts[1]) if plain and len(parts) == 2 and all(parts) else None


def _by_identifiers(actor: Actor, asked: Mapping[Condition, tuple[str, str]]) -> dict[Condition, Stored | None]:
    keys = [(type_name, system, short(value)) for (type_name, _), (system, value) in asked.items()]
    columns = [cast([*column], ARRAY(Text)) for column in zip(*keys, strict=True)]
    given = func.unnest(*columns).table_valued("type", "system", "code", name="given").render_derived()
    value = resource_value.alias()
    query = (
        Searcher(actor)
        .seen(value.c.system, value.c.code, *COLUMNS)
        .join(value, value.c.resource_id == Resource.id)
        .join(given, tuple_(value.c.type, value.c.system, value.c.code) == tuple_(*given.c))
        .where(value.c.organization_id == scope_organization(), value.c.parameter == "identifier")
        .distinct()
    )
    found: dict[tuple[str, str, str], Stored] = {}
    for system, code, *columns_ in db.session.execute(query):
        stored = Stored._make(columns_)
        if found.setdefault((stored.type, system, code), stored).id != stored.id:
            raise SeveralMatch
    return {one: found.get(key) for one, key in zip(asked, keys, strict=True)}
