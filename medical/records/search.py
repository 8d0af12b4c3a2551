"""Searches of records: what fits, a page at a time, and what goes with it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, literal, or_, select, tuple_

from medical.audit import service as audit
from medical.platform.authz import Actor
from medical.platform.db import OWN_ORGANIZATION, db, scope_organization
from medical.records.criteria import VALUES, Searcher, in_compartment, subject_asked
from medical.records.definitions import resource_types
from medical.records.errors import UnknownParameter
from medical.records.indexing import parameters_of
from medical.records.models import Resource, resource_value
from medical.records.queries import COLUMNS
from medical.records.service import Stored
from medical.records.values import KEPT, Condition

USUAL, MOST = 20, 1000
"""Resources on a page, where the caller does not say, and at most."""
MOST_INCLUDED = 1000
DEEPEST_INCLUDE = 4
SORTED_BY = {"date": "since", "string": "text", "token": "code", "number": "low", "quantity": "low", "uri": "text"}
"""The column by which each kind of parameter is sorted."""
SORTED = resource_value.alias("sorted")
Key = list[str | None]


def size_of(count: str | None) -> int:
    """How many resources a page has that was asked for by `_count`. Raises ``UnknownParameter``."""
    if count is None:
        return USUAL
    if not (count.isascii() and count.isdigit()) or len(count) > 6:
        raise UnknownParameter("`_count` must be a number.")
    return min(int(count), MOST)


class Order(NamedTuple):
    """One thing to sort by."""

    column: Any
    descending: bool


class Page(NamedTuple):
    """A page of what was found."""

    matches: list[Stored]
    included: list[Stored]
    total: int | None
    more: Key | None
    """Where the next page begins, if there is one."""
    ignored: list[str]
    """Parameters that there are not."""


class Question(NamedTuple):
    """What is searched for, and what of it is wanted."""

    type: str
    criteria: Sequence[tuple[str, str]]
    sort: Sequence[str] = ()
    size: int = USUAL
    after: Key | None = None
    total: bool = False
    include: Sequence[str] = ()
    revinclude: Sequence[str] = ()
    compartment: tuple[str, str] | None = None
    """Type and id of whose it must be: a patient, an encounter, somebody who treats."""


def search(actor: Actor, question: Question) -> Page:
    """A page of the resources that fit and that the actor may see. Raises ``UnknownParameter``."""
    searcher = Searcher(actor, subject_asked(question.type, question.criteria))
    conditions, ignored = _conditions(searcher, question)
    if question.compartment:
        conditions.append(in_compartment(question.type, *question.compartment))
    orders = [*_orders(question)]
    orders.append(Order(Resource.id, orders[-1].descending))  # the way an index has them
    query = searcher.ids_of(question.type, conditions, *COLUMNS, *(one.column for one in orders))
    if question.after:
        query = query.where(_beyond(orders, question.after))
    for one in orders:
        query = query.order_by(one.column.desc() if one.descending else one.column)
    rows = db.session.execute(query.limit(question.size + 1)).all() if question.size else []
    matches = [Stored._make(row[: len(COLUMNS)]) for row in rows[: question.size]]
    more = _key(rows[question.size - 1][len(COLUMNS) :]) if len(rows) > question.size else None
    total = None
    if question.total or not question.size:
        counted = searcher.ids_of(question.type, conditions).subquery()
        total = db.session.scalar(select(func.count()).select_from(counted))
    elif more is None and question.after is None:
        total = len(matches)
    included = _included(searcher, question, matches)
    audit.searched("&".join(f"{name}={value}" for name, value in question.criteria) or None)
    for patient_id in {stored.patient_id for stored in [*matches, *included]}:
        audit.touch(question.type, None, patient_id=patient_id)
    return Page(matches, included, total, more, ignored)


def _conditions(searcher: Searcher, question: Question) -> tuple[list[Condition], list[str]]:
    conditions, ignored = [], []
    for name, value in question.criteria:
        condition = searcher.condition(question.type, name, value) if value else None
        if condition is None:
            ignored.append(name)
        else:
            conditions.append(condition)
    return conditions, ignored


def _orders(question: Question) -> Iterable[Order]:
    """What to sort by; the newest first where nothing is said."""
    for one in question.sort:
        name, descending = one.removeprefix("-"), one.startswith("-")
        if name == "_lastUpdated":
            yield Order(Resource.updated_at, descending)
        elif name == "_id":
            yield Order(Resource.fhir_id, descending)
        else:
            parameter = parameters_of(question.type).get(name)
            column = SORTED_BY.get(parameter.kind) if parameter else None
            if column is None:
                raise UnknownParameter(f"It cannot be sorted by `{name[:40]}`.")
            yield Order(_least(question.type, name, column, "" if descending else "\uffff"), descending)
    if not question.sort:
        yield Order(Resource.updated_at, True)


@lru_cache(KEPT)
def _least(type_name: str, parameter: str, column: str, last: str) -> ColumnElement[Any]:
    """The least value of a parameter as text that sorts as the values do; ``last`` for those that have none."""
    value = SORTED
    chosen = value.c[column]
    text = func.to_char(chosen, "YYYYMMDDHH24MISSUS") if column == "since" else chosen
    if column == "low":
        text = func.to_char(chosen + literal(Decimal(10**20)), "FM0000000000000000000000.0000000000")
    least = select(func.min(text)).where(
        value.c.resource_id == Resource.id,
        value.c.organization_id == OWN_ORGANIZATION,
        value.c.type == type_name,
        value.c.parameter == parameter,
    )
    return func.coalesce(least.scalar_subquery(), literal(last)).collate("C")


def _beyond(orders: Sequence[Order], key: Key) -> Condition:
    """That a resource comes after the one with this key."""
    if len(key) != len(orders):
        raise UnknownParameter("The page is of another search.")
    if len({one.descending for one in orders}) == 1:
        columns, last = tuple_(*(one.column for one in orders)), tuple_(*map(_typed, orders, key))
        return columns < last if orders[0].descending else columns > last
    ways: list[Condition] = []
    for number, order in enumerate(orders):
        same = [one.column == _typed(one, value) for one, value in zip(orders[:number], key, strict=False)]
        value = _typed(order, key[number])
        ways.append(and_(*same, order.column < value if order.descending else order.column > value))
    return or_(*ways)


def _typed(order: Order, value: str | None) -> Any:
    """A part of a key as what it was. Raises ``UnknownParameter`` for a forged one."""
    try:
        if order.column is Resource.id:
            return UUID(value)
        return datetime.fromisoformat(value or "") if order.column is Resource.updated_at else value
    except (TypeError, ValueError):
        raise UnknownParameter("There is no such page.") from None


def _key(values: Sequence[Any]) -> Key:
    return [one.isoformat() if isinstance(one, datetime) else str(one) for one in values]


def _included(searcher: Searcher, question: Question, matches: list[Stored]) -> list[Stored]:
    """What the matches refer to, and what refers to them, as far as it was asked for."""
    found: dict[UUID, Stored] = {}
    seen = {one.id for one in matches}
    around = list(matches)
    for depth in range(DEEPEST_INCLUDE):
        news: list[Stored] = []
        for forward, rules in ((True, question.include), (False, question.revinclude)):
            for rule in rules:
                if depth and not rule.startswith("iterate:"):
                    continue
                asked = rule.removeprefix("iterate:").split(":")
                news += _referred(searcher, around, asked) if forward else _referring(searcher, around, asked)
        around = [one for one in {one.id: one for one in news}.values() if one.id not in seen]
        seen |= {one.id for one in around}
        found |= {one.id: one for one in around}
        if not around or len(found) > MOST_INCLUDED:
            break
    return list(found.values())[:MOST_INCLUDED]


def _rule(asked: Sequence[str]) -> tuple[str, str, str | None]:
    """Type, parameter and type of the target. Raises ``UnknownParameter``."""
    type_name, name = asked[0], asked[1] if len(asked) > 1 else ""
    if type_name not in resource_types() or (name != "*" and name not in parameters_of(type_name)):
        raise UnknownParameter(f"`{':'.join(asked)[:80]}` cannot be included.")
    return type_name, name, asked[2] if len(asked) > 2 else None


def _referred(searcher: Searcher, around: Sequence[Stored], asked: Sequence[str]) -> Sequence[Stored]:
    type_name, name, target = _rule(asked)
    ids = [one.id for one in around if one.type == type_name]
    if not ids:
        return []
    value = VALUES[0]
    wanted = select(value.c.target_type, value.c.target_id).where(
        value.c.organization_id == scope_organization(), value.c.resource_id.in_(ids), value.c.target_id.is_not(None)
    )
    wanted = wanted.where(value.c.parameter == name) if name != "*" else wanted
    wanted = wanted.where(value.c.target_type == target) if target else wanted
    return _all(searcher, tuple_(Resource.type, Resource.fhir_id).in_(wanted))


def _referring(searcher: Searcher, around: Sequence[Stored], asked: Sequence[str]) -> Sequence[Stored]:
    type_name, name, target = _rule(asked)
    named = [(one.type, one.fhir_id) for one in around if target in (None, one.type)]
    value = VALUES[0]
    refers = select(value.c.resource_id).where(
        value.c.organization_id == scope_organization(),
        value.c.type == type_name,
        tuple_(value.c.target_type, value.c.target_id).in_(named),
    )
    refers = refers.where(value.c.parameter == name) if name != "*" else refers
    return _all(searcher, Resource.id.in_(refers))


def named(actor: Actor, names: Iterable[tuple[str, str]]) -> list[Stored]:
    """Those of the resources of these types and ids that the actor may see; the trail names their patients."""
    found = _all(Searcher(actor), tuple_(Resource.type, Resource.fhir_id).in_([*names]))
    for stored in found:
        audit.touch(stored.type, None, patient_id=stored.patient_id)
    return found


def _all(searcher: Searcher, condition: Condition) -> list[Stored]:
    """All that fit, as far as they are included."""
    query = searcher.seen(*COLUMNS).where(condition).order_by(Resource.id).limit(MOST_INCLUDED)
    return [Stored._make(row) for row in db.session.execute(query)]
