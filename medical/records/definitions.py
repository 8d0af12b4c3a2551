"""FHIR R4's own definitions: which elements a type has, of which types, how often, and with which codes.

The tables in ``r4/`` are HL7's, compiled by ``tools/fhir_definitions.py``.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from medical.records.primitives import CHECKS, Check

VERSION = "4.0.1"


@cache
def table(name: str) -> dict[str, Any]:
    """One of the compiled tables."""
    loaded: dict[str, Any] = json.loads(files("medical.records").joinpath(f"r4/{name}.json").read_text())
    return loaded


@cache
def resource_types() -> frozenset[str]:
    """The names of all types that have resources."""
    types = table("types").items()
    return frozenset(name for name, one in types if one["kind"] == "resource" and not one["abstract"])


class Property(NamedTuple):
    """A property as it stands in JSON: ``valueQuantity`` is one of the element ``value[x]``."""

    element: str
    many: bool
    type: str
    """A primitive type, a complex one, or the path of an element that has its own elements."""
    check: Check | None
    """Of a primitive value."""
    codes: frozenset[str] | None
    """Of a required binding, whatever their systems."""
    systems: dict[str, list[str]] | None
    """The same by system."""


class Shape(NamedTuple):
    """What an object of a type may and must have."""

    properties: dict[str, Property]
    required: list[tuple[str, frozenset[str]]]
    """Elements that must be there, and the properties one of which that takes."""
    choices: list[tuple[str, frozenset[str]]]
    """Elements of which only one of several properties may be there."""


@cache
def shape_of(path: str) -> Shape:
    """The shape of a type, or of an element with its own elements. Raises ``KeyError`` for what is neither."""
    properties: dict[str, Property] = {}
    required, choices = [], []
    for name, (least, most, types, value_set) in table("elements")[path].items():
        stem, systems = name.removesuffix("[x]"), table("codes").get(value_set)
        codes = frozenset(code for listed in systems.values() for code in listed) if systems else None
        names = {stem if stem == name else stem + one[0].upper() + one[1:]: one for one in types}
        for key, one in names.items():
            properties[key] = Property(stem, most is None, one, CHECKS.get(one), codes, systems)
        if least:
            required.append((stem, frozenset(names)))
        if len(names) > 1:
            choices.append((stem, frozenset(names)))
    return Shape(properties, required, choices)


@cache
def keys_of(path: str, element: str) -> list[tuple[str, Property]]:
    """The JSON keys of an element of a type: several where it is a choice, none where there is no such element."""
    if path not in table("elements"):
        return []
    return [(key, one) for key, one in shape_of(path).properties.items() if one.element == element]


@cache
def summary_elements(type_name: str) -> frozenset[str]:
    """The JSON keys of the elements that a summary of such a resource has."""
    return frozenset(key for name in table("summaries")[type_name] for key, _ in keys_of(type_name, name))
