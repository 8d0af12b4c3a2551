"""FHIR's invariants: rules over several elements, as the definitions write them in FHIRPath."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from medical.records.definitions import table

Json = dict[str, Any]


class Ruled(NamedTuple):
    """An object whose type has rules."""

    type: str
    value: Json
    path: str
    resource: Json
    """What ``%resource`` is in its rules."""


def broken(objects: Iterable[Ruled]) -> Iterator[tuple[str, str]]:
    """Where each broken rule is broken, and which it is."""
    for one in objects:
        for key, human, holds in _rules_of(one.type):
            if not holds(one.value, one.resource):
                yield one.path, f"{key}: {human}"


@cache
def _rules_of(type_name: str) -> list[tuple[str, str, Callable[[Json, Json], bool]]]:
    return [(key, human, _rule(type_name, expression)) for key, expression, human in table("invariants")[type_name]]


def _rule(type_name: str, expression: str) -> Callable[[Json, Json], bool]:
    """The expression as a function of the object and of its resource; the library is loaded with the first."""
    from fhirpathpy import compile as compile_path
    from fhirpathpy.engine.nodes import ResourceNode
    from fhirpathpy.models import models

    evaluate = compile_path(expression, models["r4"])

    def holds(value: Json, resource: Json) -> bool:
        node: Any = ResourceNode.create_node(value, type_name)  # type: ignore[no-untyped-call]  # the library's way
        return evaluate(node, {"resource": resource}) == [True]

    return holds
