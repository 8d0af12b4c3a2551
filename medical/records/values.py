"""Values of search parameters as conditions on resources. Source: https://hl7.org/fhir/R4/search.html."""

import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Exists, FromClause, and_, exists, false, not_, or_
from sqlalchemy.orm import InstrumentedAttribute

from medical.platform import clock
from medical.platform.db import OWN_ORGANIZATION
from medical.records import moments
from medical.records.definitions import resource_types
from medical.records.errors import UnknownParameter
from medical.records.indexing import Parameter, plain, short
from medical.records.models import Resource

PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.+)", re.DOTALL)
MODIFIERS = {
    "string": {"exact", "contains", "missing"},
    "token": {"not", "missing"},
    "uri": {"below", "missing"},
}
KEPT = 500
"""Parts of statements that are always alike are kept, so many: to make them takes longer than the search."""
MOST_VALUES = 100
"""So many values one parameter may have, separated by commas."""
Condition = ColumnElement[bool]


class Asked(NamedTuple):
    """A parameter as it was asked for: ``name:modifier.chain=value``."""

    name: str
    modifier: str | None
    chain: str | None
    values: list[str]


def fits_value(
    type_name: str, parameter: Parameter, asked: Asked, value: FromClause, subject_id: UUID | None = None
) -> Condition:
    """That a resource has what is asked for of a parameter that is no reference, where it can be of no other patient.

    Raises ``UnknownParameter``.
    """
    if asked.chain or (asked.modifier and asked.modifier not in MODIFIERS.get(parameter.kind, {"missing"})):
        raise UnknownParameter(f"`{asked.name[:80]}` cannot be asked for so.")
    if asked.name == "_id":
        return Resource.fhir_id.in_([_meant(one) for one in asked.values])
    if asked.name == "_lastUpdated":
        return or_(*(_updated(one) for one in asked.values))
    if asked.modifier == "missing":
        return missing(type_name, parameter, asked, value)
    maker = MAKERS.get(parameter.kind)
    if maker is None:
        raise UnknownParameter(f"`{asked.name}` is not searched for here.")
    wanted = or_(*(maker(value, one, asked, parameter) for one in asked.values))
    if subject_id and parameter.kind == "token":
        wanted = and_(wanted, or_(value.c.subject_id == subject_id, value.c.subject_id.is_(None)))
    found = has_value(type_name, parameter, value, wanted)
    return not_(found) if asked.modifier == "not" else found


def asked_of(key: str, text: str) -> Asked:
    """The parts of ``key=text``; commas separate values, but for ``\\,``."""
    head, dot, chain = key.partition(".")
    name, _, modifier = head.partition(":")
    values = re.split(r"(?<!\\),", text)
    if len(values) > MOST_VALUES:
        raise UnknownParameter(f"`{name}` may have at most {MOST_VALUES} values.")
    return Asked(name, modifier or None, chain if dot else None, values)


def _parts(text: str, separator: str) -> list[str]:
    """The parts of a value, as they are meant: ``\\`` takes from ``, $ |`` and itself what they mean otherwise."""
    return [_meant(one) for one in re.split(rf"(?<!\\){re.escape(separator)}", text)]


def _meant(text: str) -> str:
    """A value that has no parts."""
    return re.sub(r"\\([,|$\\])", r"\1", text)


def has_value(type_name: str, parameter: Parameter, value: FromClause, condition: Condition) -> Condition:
    """That the resource has such a value for the parameter."""
    return _values_of(type_name, parameter.name, value).where(condition)


@lru_cache(KEPT)
def _values_of(type_name: str, parameter: str, value: FromClause) -> Exists:
    """That the resource has a value for the parameter."""
    return exists().where(
        value.c.resource_id == Resource.id,
        value.c.organization_id == OWN_ORGANIZATION,
        value.c.type == type_name,
        value.c.parameter == parameter,
    )


def missing(type_name: str, parameter: Parameter, asked: Asked, value: FromClause) -> Condition:
    """That a resource has no value for a parameter, or that it has one. Raises ``UnknownParameter``."""
    if asked.values not in (["true"], ["false"]):
        raise UnknownParameter("`:missing` takes true or false.")
    has = has_value(type_name, parameter, value, value.c.id.is_not(None))
    return not_(has) if asked.values == ["true"] else has


def _token(value: FromClause, text: str, *_: Any) -> Condition:
    *systems, code = _parts(text, "|")
    if not systems:
        return value.c.code == short(code)
    system = "|".join(systems)
    conditions = [value.c.code == short(code)] if code else []
    conditions.append(value.c.system == system if system else value.c.system.is_(None))
    return and_(*conditions)


def _string(value: FromClause, text: str, asked: Asked, *_: Any) -> Condition:
    if asked.modifier == "exact":
        return value.c.code == short(_meant(text))
    wanted = short(plain(_meant(text)))
    return value.c.text.like(f"%{_escaped(wanted)}%") if asked.modifier == "contains" else _begins(value.c.text, wanted)


def _begins(column: ColumnElement[str], text: str) -> Condition:
    """That a text begins so. Row-level security lets no LIKE use an index, for it might tell of rows; these it does."""
    conditions = [column.op("~>=~", is_comparison=True)(text)]
    if beyond := _beyond(text):
        conditions.append(column.op("~<~", is_comparison=True)(beyond))
    return and_(*conditions)


def _beyond(text: str) -> str | None:
    """The least text that comes after all that begin with ``text``; None where there is none."""
    head = text.rstrip(chr(sys.maxunicode))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(0xE000 if following == 0xD800 else following)  # no half of a pair


def _uri(value: FromClause, text: str, asked: Asked, *_: Any) -> Condition:
    if asked.modifier == "below":
        return _begins(value.c.text, short(_meant(text)))
    return value.c.text == short(_meant(text))


def _escaped(text: str) -> str:
    """A text as a pattern of LIKE that fits it alone."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def target(value: FromClause, text: str, types: Sequence[str]) -> Condition:
    """That a reference points there: ``Type/id``, an id alone, or a URL."""
    parts = text.split("/")
    if ":" in text or len(parts) > 2:
        own = parts[-2:] if len(parts) > 2 and parts[-2] in resource_types() else None
        elsewhere = value.c.text == short(text)
        return or_(elsewhere, and_(value.c.target_type == own[0], value.c.target_id == own[1])) if own else elsewhere
    if len(parts) == 2:
        return and_(value.c.target_type == parts[0], value.c.target_id == parts[1])
    return and_(value.c.target_type.in_(types), value.c.target_id == text) if types else value.c.target_id == text


def _prefixed(text: str) -> tuple[str, str]:
    match = PREFIXED.fullmatch(text)
    if not match:
        raise UnknownParameter("A value is empty.")
    return match[1] or "eq", match[2]


def span_asked(text: str) -> tuple[datetime, datetime]:
    """The span of time that a date of a query means. Raises ``UnknownParameter``."""
    try:
        return moments.span_of(text.replace(" ", "+"))
    except ValueError:
        raise UnknownParameter(f"`{text[:40]}` is no date.") from None


def bounds_asked(text: str) -> tuple[datetime | None, datetime | None]:
    """From when, and before when, something begins that a date with a prefix asks for. Raises ``UnknownParameter``."""
    prefix, since, until = span_with_prefix(text)
    bounds = {
        "eq": (since, until),
        "ap": (since, until),
        "ge": (since, None),
        "gt": (until, None),
        "sa": (until, None),
        "le": (None, until),
        "lt": (None, since),
        "eb": (None, since),
    }
    if prefix not in bounds:
        raise UnknownParameter("A beginning is not searched for by `ne`.")
    return bounds[prefix]


def span_with_prefix(text: str) -> tuple[str, datetime, datetime]:
    """How a date of a query relates, and the span of time that it means. Raises ``UnknownParameter``."""
    prefix, rest = _prefixed(text)
    since, until = span_asked(rest)
    if prefix == "ap":
        slack = abs(clock.now() - since) / 10
        since, until = moments.later(since, -slack), moments.later(until, slack)
    return prefix, since, until


def _dated(prefix: str, low: Any, high: Any, since: datetime, until: datetime) -> Condition:
    """How a span that a resource has, open where null, relates to the one that was asked for."""
    within = and_(low >= since, high <= until)
    conditions: dict[str, Callable[[], Condition]] = {
        "eq": lambda: within,
        "ne": lambda: or_(not_(within), low.is_(None), high.is_(None)),
        "gt": lambda: or_(high > until, high.is_(None)),
        "lt": lambda: or_(low < since, low.is_(None)),
        "ge": lambda: or_(high > since, high.is_(None)),
        "le": lambda: or_(low < until, low.is_(None)),
        "sa": lambda: low >= until,
        "eb": lambda: high <= since,
        "ap": lambda: and_(or_(low < until, low.is_(None)), or_(high > since, high.is_(None))),
    }
    return conditions[prefix]()


def _date(value: FromClause, text: str, *_: Any) -> Condition:
    prefix, since, until = span_with_prefix(text)
    return and_(
        or_(value.c.since.is_not(None), value.c.until.is_not(None)),
        _dated(prefix, value.c.since, value.c.until, since, until),
    )


def _updated(text: str) -> Condition:
    prefix, since, until = span_with_prefix(text)
    at: InstrumentedAttribute[datetime] = Resource.updated_at
    inside = and_(at >= since, at < until)
    conditions = {
        "eq": inside,
        "ne": not_(inside),
        "gt": at >= until,
        "sa": at >= until,
        "lt": at < since,
        "eb": at < since,
        "ge": at >= since,
        "le": at < until,
        "ap": inside,
    }
    return conditions[prefix]


def _numbers(value: FromClause, text: str) -> Condition:
    """A number means what rounds to it: ``5.40`` is 5.395 to 5.405."""
    prefix, rest = _prefixed(text)
    try:
        number = Decimal(rest)
    except InvalidOperation:
        number = Decimal("NaN")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > 100 or len(rest) > 60:
        raise UnknownParameter(f"`{rest[:40]}` is no number.")
    half = Decimal(5).scaleb(exponent - 1)
    slack = max(abs(number) / 10, half) if prefix == "ap" else half
    low, high = value.c.low, value.c.high
    there = or_(low.is_not(None), high.is_not(None))
    near = and_(or_(low.is_(None), low < number + slack), or_(high.is_(None), high >= number - slack))
    conditions: dict[str, Condition] = {
        "eq": near,
        "ap": near,
        "ne": not_(near),
        "gt": or_(high > number, high.is_(None)),
        "ge": or_(high >= number, high.is_(None)),
        "lt": or_(low < number, low.is_(None)),
        "le": or_(low <= number, low.is_(None)),
        "sa": low > number,
        "eb": high < number,
    }
    return and_(there, conditions[prefix])


def _number(value: FromClause, text: str, *_: Any) -> Condition:
    return _numbers(value, text)


def _quantity(value: FromClause, text: str, *_: Any) -> Condition:
    number, *unit = _parts(text, "|")
    conditions = [_numbers(value, number)]
    if len(unit) == 2:
        system, code = unit
        conditions += [value.c.system == system] if system else []
        conditions += [value.c.code == code] if code else []
    elif unit:
        raise UnknownParameter("A quantity is a number, or number|system|code.")
    return and_(*conditions)


def _composite(value: FromClause, text: str, asked: Asked, parameter: Parameter) -> Condition:
    """Both parts, separated by $, of one value."""
    first, *rest = re.split(r"(?<!\\)\$", text)
    kind, second = parameter.components[1][1], "$".join(rest)
    if not second:
        raise UnknownParameter(f"`{parameter.name}` takes two values with $ between them.")
    token = _token(value, first)
    if kind == "token":
        *system, code = _parts(second, "|")
        wanted = f"{'|'.join(system)}|{code}" if system else f"|{code}"
        return and_(token, value.c.text == wanted if system else value.c.text.like("%" + _escaped(wanted)))
    if kind == "quantity":
        return and_(token, _numbers(value, second.partition("|")[0]))
    maker = MAKERS.get(kind)
    return and_(token, maker(value, second, asked, parameter)) if maker else false()


MAKERS: dict[str, Callable[..., Condition]] = {
    "token": _token,
    "string": _string,
    "uri": _uri,
    "date": _date,
    "number": _number,
    "quantity": _quantity,
    "composite": _composite,
}
