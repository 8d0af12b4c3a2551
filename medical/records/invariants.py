"""FHIR's invariants: rules over several elements, as the definitions write them in FHIRPath.

Most rules say what must be where something else is; where it is not, they hold, and nothing needs to be evaluated.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from medical.records.definitions import keys_of, table

Json = dict[str, Any]
Holds = Callable[[Json, Json], bool]
"""Whether a rule holds for an object within a resource."""
EMPTY = re.compile(r"\(*(\w+)\b[^ ]*\.empty\(\)\)*")
EXISTS = re.compile(r"\(*(\w+)\.exists\(\)\)*")
PREMISE = re.compile(r"\(*(\w+)\b[^ ]*\.exists\(\)\)*")


class Ruled(NamedTuple):
    """An object whose type has rules."""

    type: str
    value: Json
    path: str
    resource: Json
    """What ``%resource`` is in its rules."""


class Obvious(NamedTuple):
    """When a rule holds without being evaluated: JSON keys of which none is there, or one is."""

    none_of: list[frozenset[str]]
    any_of: list[frozenset[str]]

    def holds(self, value: Json) -> bool:
        """Whether it surely holds for an object."""
        there = value.keys()
        return any(there.isdisjoint(keys) for keys in self.none_of) or any(
            not there.isdisjoint(keys) for keys in self.any_of
        )


def broken(objects: Iterable[Ruled]) -> Iterator[tuple[str, str]]:
    """Where each broken rule is broken, and which it is."""
    for one in objects:
        for key, human, obvious, expression in _rules_of(one.type):
            if not (obvious.holds(one.value) or _rule(one.type, expression)(one.value, one.resource)):
                yield one.path, f"{key}: {human}"


@cache
def _rules_of(type_name: str) -> list[tuple[str, str, Obvious, str]]:
    """Of each rule of a type: its key, its text, when it holds obviously, and its expression."""
    rules = table("invariants")[type_name]
    return [(key, human, _obvious(type_name, expression), expression) for key, expression, human in rules]


def _obvious(type_name: str, expression: str) -> Obvious:
    """What the form of a rule says: ``a.empty() or …`` holds without a, ``a.exists() or …`` with it."""
    obvious = Obvious([], [])
    premise, *conclusion = _split(expression, " implies ")
    if conclusion:
        if match := PREMISE.fullmatch(premise):
            obvious.none_of.append(_keys(type_name, match[1]))
    elif len(_split(expression, " xor ")) == 1:
        for term in _split(expression, " or "):
            if len(_split(term, " and ")) > 1:
                continue
            if match := EMPTY.fullmatch(term):
                obvious.none_of.append(_keys(type_name, match[1]))
            elif match := EXISTS.fullmatch(term):
                obvious.any_of.append(_keys(type_name, match[1]))
    return Obvious([keys for keys in obvious.none_of if keys], [keys for keys in obvious.any_of if keys])


def _split(expression: str, operator: str) -> list[str]:
    """The parts of an expression between operators that no parentheses enclose."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if depth == 0 and expression.startswith(operator, at):
            parts.append(expression[begin:at])
            begin = at + len(operator)
    return [one.strip() for one in [*parts, expression[begin:]]]


def _keys(type_name: str, element: str) -> frozenset[str]:
    """The JSON keys of an element, and those that stand beside them; none where there is no such element."""
    keys = [key for key, _ in keys_of(type_name, element)]
    return frozenset(keys) | {f"_{key}" for key in keys}


@cache
def _rule(type_name: str, expression: str) -> Holds:
    """The expression as a function of the object and of its resource; the library is loaded with the first of all."""
    from fhirpathpy import compile as compile_path
    from fhirpathpy.engine.nodes import ResourceNode
    from fhirpathpy.models import models

    evaluate: Any = compile_path(expression, models["r4"])
    node: Any = ResourceNode.create_node  # the library has no types
    return lambda value, resource: bool(evaluate(node(value, type_name), {"resource": resource}) == [True])
