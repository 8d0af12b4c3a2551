"""Shapes of what comes in and goes out, and reading the former so that every problem is named.

msgspec checks shape and type in one pass and stops at the first problem; only when it found one
is the input walked field by field for all of them. Types carry further checks of their own.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from werkzeug.datastructures import MultiDict

from medical.platform.errors import FieldProblem, InvalidRequest, MalformedJson, TooLarge

Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
"""A line of text with something in it."""
LongText = Annotated[str, Meta(min_length=1, max_length=4000, pattern=r"\S")]
"""Several lines of text with something in them."""
Version = Annotated[int, Meta(ge=1, description="Counts the changes; it is the ETag.")]

Check = Callable[[Any], str | None]
"""Says what is wrong with a value of the right type, or None; a type carries it as ``Meta(extra={"check": …})``."""

EARLIEST_YEAR, LATEST_YEAR = 1900, 2200


def _year_problem(instant: datetime) -> str | None:
    """Dates at the ends of the calendar cannot be moved to another offset."""
    if EARLIEST_YEAR <= instant.year <= LATEST_YEAR:
        return None
    return f"the year must lie between {EARLIEST_YEAR} and {LATEST_YEAR}"


ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
LONGEST_LOCAL_PART = 64


def _mailbox_problem(address: str) -> str | None:
    return "has more than 64 characters before the @" if address.find("@") > LONGEST_LOCAL_PART else None


Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=rf"^{ATOM}(\.{ATOM})*@{LABEL}(\.{LABEL})+$",
        extra={"check": _mailbox_problem},
        extra_json_schema={"format": "email", "examples": ["ada@example.org"]},
    ),
]
"""An address that mail can be sent to, by form (RFC 5321): in ASCII, so that no two look alike."""

Instant = Annotated[datetime, Meta(tz=True, extra={"check": _year_problem})]
"""A moment with an offset (RFC 3339); never a naive time."""


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body or query: unknown fields are refused."""

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        yield from ()

    def arguments(self) -> dict[str, Any]:
        """The fields by name, as keyword arguments of a service."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, for a partial update."""
        return {name: value for name, value in self.arguments().items() if value is not msgspec.UNSET}


class Output(Struct, frozen=True, kw_only=True):
    """An answer; every field is always there."""

    def repeated(self) -> Self:
        """What a repeat with the same `Idempotency-Key` is told, and what is kept for it: less if told only once."""
        return self


Model = TypeVar("Model", bound=Input)

MAXIMUM_BODY = 1024 * 1024
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Not JSON in UTF-8, too deep, or a number that no computer holds."""
BOOLEANS = {"true": True, "false": False}
INTEGER = re.compile(r"-?[0-9]{1,18}")


@cache
def _decoder(model: type[Input]) -> msgspec.json.Decoder[Input]:
    return msgspec.json.Decoder(model)


def read_body(raw: bytes, model: type[Model]) -> Model:
    """``raw`` as ``model``; raises ``TooLarge``, ``MalformedJson``, or ``InvalidRequest`` naming every problem."""
    if len(raw) > MAXIMUM_BODY:
        raise TooLarge
    try:
        body = _decoder(model).decode(raw)
    except msgspec.ValidationError:
        raise InvalidRequest(shape_problems(_plain_json(raw), model)) from None
    except NOT_JSON:
        raise MalformedJson from None
    ensure_names_differ(raw)
    return _ensure_sound(body)  # type: ignore[return-value]  # the decoder made it of this very model


def _plain_json(raw: bytes) -> Any:
    """The whole of a body that was found wrong before its end; raises ``MalformedJson``."""
    try:
        value = msgspec.json.decode(raw)
    except NOT_JSON:
        raise MalformedJson from None
    ensure_names_differ(raw)
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise MalformedJson
    return value


_names_once = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_float=str)


def ensure_names_differ(raw: bytes) -> None:
    """Raise ``MalformedJson`` when an object has a name twice: two readers would take two values for it.

    msgspec takes the last one, silently; this second pass costs a few microseconds.
    """
    try:
        _names_once.decode(raw.decode())
    except (RecursionError, ValueError):
        raise MalformedJson from None


def read_query(values: "MultiDict[str, str]", model: type[Model]) -> Model:
    """Query parameters as ``model``; raises ``InvalidRequest`` naming every problem."""
    plain: dict[str, Any] = {}
    repeated = []
    for field in msgspec.structs.fields(model):
        given = values.getlist(field.encode_name)
        if given and _is_list(field.type):
            plain[field.encode_name] = given
        elif given:
            plain[field.encode_name] = _spelt(given[0], {_bare(member) for member in _members(field.type)})
            if len(given) > 1:
                repeated.append(FieldProblem(f"/{field.encode_name}", "given more than once"))
    plain |= {name: values[name] for name in values if name not in plain}
    try:
        query = msgspec.convert(plain, model)
    except msgspec.ValidationError:
        raise InvalidRequest([*repeated, *shape_problems(plain, model)]) from None
    if repeated:
        raise InvalidRequest([*repeated, *_unsound(query)])
    return _ensure_sound(query)


def _spelt(text: str, members: Collection[Any]) -> bool | int | str:
    """A query parameter as the whole number or the truth value that it spells where one is wanted, else as it is."""
    if bool in members and text in BOOLEANS:
        return BOOLEANS[text]
    return int(text) if int in members and INTEGER.fullmatch(text) else text


def _ensure_sound(model: Model) -> Model:
    if problems := [*_unsound(model)]:
        raise InvalidRequest(problems)
    return model


def _unsound(model: Input) -> Iterator[FieldProblem]:
    yield from value_problems(model, type(model))
    yield from model.problems()


def pointer_to(name: str) -> str:
    """``name`` as a step of a JSON Pointer (RFC 6901)."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def shape_problems(value: Any, kind: Any, pointer: str = "") -> Iterator[FieldProblem]:
    """Every place in ``value`` that does not fit the type ``kind``, or fits it and is wrong nonetheless."""
    struct = _struct_in(kind)
    if struct and isinstance(value, dict):
        yield from _struct_problems(value, struct, pointer)
        return
    item = _item_of(kind)
    if item is not None and isinstance(value, list):
        found = [
            problem for index, each in enumerate(value) for problem in shape_problems(each, item, f"{pointer}/{index}")
        ]
        if found:
            yield from found
            return
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield FieldProblem(pointer, _message(error, kind))
    else:
        yield from value_problems(converted, kind, pointer)


def _message(error: msgspec.ValidationError, kind: Any) -> str:
    """What msgspec says, but for choices, where it repeats the value."""
    choices = next((one for one in _members(kind) if isinstance(one, type) and issubclass(one, Enum)), None)
    if choices and str(error).startswith("Invalid enum value"):
        return f"must be one of {', '.join(str(choice.value) for choice in choices)}"
    return str(error).split(" - at `$")[0]


def _struct_problems(value: dict[str, Any], struct: type[Struct], pointer: str) -> Iterator[FieldProblem]:
    fields = msgspec.structs.fields(struct)
    for field in fields:
        place = f"{pointer}/{field.encode_name}"
        if field.encode_name in value:
            yield from shape_problems(value[field.encode_name], field.type, place)
        elif field.required:
            yield FieldProblem(place, "required, but missing")
    for name in sorted(value.keys() - {field.encode_name for field in fields}):
        yield FieldProblem(pointer + pointer_to(name), "unknown field")


def value_problems(value: Any, kind: Any, pointer: str = "") -> Iterator[FieldProblem]:
    """What is wrong with a value of the right type: PostgreSQL cannot hold it, or a check of its type refuses it."""
    if isinstance(value, Struct):
        for field in msgspec.structs.fields(type(value)):
            yield from value_problems(getattr(value, field.name), field.type, f"{pointer}/{field.encode_name}")
    elif isinstance(value, list):
        item = _item_of(kind)
        for index, each in enumerate(value):
            yield from value_problems(each, item, f"{pointer}/{index}")
    elif isinstance(value, str) and "\x00" in value:
        yield FieldProblem(pointer, "contains a NUL character")
    for check in _checks(kind):
        if value is not None and value is not msgspec.UNSET and (message := check(value)):
            yield FieldProblem(pointer, message)


def _last_line_problem(value: Any) -> str | None:
    """Python's ``$`` also matches before a last newline, JSON Schema's does not."""
    return "ends with a newline" if isinstance(value, str) and value.endswith("\n") else None


@cache
def _checks(kind: Any) -> tuple[Check, ...]:
    """The checks that the type carries as ``Meta(extra={"check": …})``, alone or in a union."""
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        own = tuple(meta.extra["check"] for meta in metas if isinstance(meta, Meta) and meta.extra)
        if any(isinstance(meta, Meta) and (meta.pattern or "").endswith("$") for meta in metas):
            own += (_last_line_problem,)
        return own + _checks(inner)
    if get_origin(kind) in (Union, UnionType):
        return tuple(check for member in get_args(kind) for check in _checks(member))
    return ()


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or ``kind`` alone."""
    kind = _bare(kind)
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _bare(kind: Any) -> Any:
    """``kind`` without its annotations."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _struct_in(kind: Any) -> type[Struct] | None:
    return next((one for one in _members(kind) if isinstance(one, type) and issubclass(one, Struct)), None)


def _item_of(kind: Any) -> Any:
    """The type of the items when ``kind`` is a list, alone or in a union; else None."""
    lists = (_bare(one) for one in _members(kind))
    return next((get_args(one)[0] for one in lists if get_origin(one) is list), None)


@cache
def _is_list(kind: Any) -> bool:
    return _item_of(kind) is not None
