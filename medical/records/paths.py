"""The paths by which search parameters find their values: the few forms of FHIRPath that FHIR R4 writes them in."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from medical.records.definitions import Property, keys_of, table

Json = dict[str, Any]
CAST = re.compile(r"\((?P<path>[\w.]+) as (?P<type>\w+)\)")
STEP = re.compile(
    r"\.?(?:"
    r"where\(resolve\(\) is (?P<target>\w+)\)"
    r"|where\((?P<field>\w+)='(?P<value>[^']*)'\)"
    r"|as\((?P<type>\w+)\)"
    r"|(?P<name>\w+)"
    r"|(?P<first>\[0\])"
    r")"
)
ROOT = "%resource."
DECEASED = "Patient.deceased.exists() and Patient.deceased != false"


class Found(NamedTuple):
    """A value, and what is known of it."""

    value: Any
    type: str
    property: Property | None


class Step(NamedTuple):
    """One step of a path; one of its parts is set."""

    name: str | None
    type: str | None
    target: str | None
    field: str | None
    value: str | None
    first: str | None


@cache
def steps_of(expression: str) -> tuple[Step, ...]:
    """The steps of a path, without the type that it begins with. Raises ``ValueError`` for what is none."""
    plain = CAST.sub(r"\g<path>.as(\g<type>)", expression)
    steps, at = [], 0
    while at < len(plain):
        if not (match := STEP.match(plain, at)):
            raise ValueError(f"no path: {expression}")
        steps.append(Step(**match.groupdict()))
        at = match.end()
    begins_with_type = steps and steps[0].name and steps[0].name[0].isupper()
    return tuple(steps[1:] if begins_with_type else steps)


@cache
def paths_of(expression: str) -> tuple[tuple[bool, tuple[Step, ...]], ...]:
    """The paths of an expression: of each, whether it begins at the resource itself, and its steps."""
    return tuple((path.startswith(ROOT), steps_of(path.removeprefix(ROOT))) for path in expression.split(" | "))


def follow(origin: Found, expression: str, root: Found) -> list[Found]:
    """All values that an expression, one path or several, finds from a value within the resource ``root``."""
    if expression == DECEASED:
        return [Found(_is_deceased(origin.value), "boolean", None)]
    found = []
    for from_root, steps in paths_of(expression):
        some = [root if from_root else origin]
        for step in steps:
            some = [one for each in some for one in _taken(each, step)]
            if not some:
                break
            if step.first:
                some = some[:1]
        found += some
    return found


def _taken(found: Found, step: Step) -> Iterator[Found]:
    """Where one step leads from one value."""
    value = found.value
    if step.name:
        if isinstance(value, dict):
            for key, known in keys_of(_type_of(found), step.name):
                if key in value:
                    yield from _each(value[key], known)
    elif step.type:
        if found.type.lower() == step.type.lower():
            yield found
    elif step.target:
        if _refers_to(value, step.target):
            yield found
    elif step.field:
        if isinstance(value, dict) and value.get(step.field) == step.value:
            yield found
    else:
        yield found


def _type_of(found: Found) -> str:
    """The type of an object; a resource says its own."""
    name: str = found.value.get("resourceType", found.type) if found.type == "Resource" else found.type
    return name


def _each(value: Any, known: Property) -> Iterator[Found]:
    for one in value if isinstance(value, list) else [value]:
        if one is not None:
            yield Found(one, known.type, known)


def _refers_to(value: Any, target: str) -> bool:
    """Whether a reference says that it points at this type; one that does not say so points at any."""
    if not isinstance(value, dict):
        return False
    parts = value.get("reference", "").partition("/_history/")[0].split("/")
    name = value.get("type") or (parts[-2] if len(parts) > 1 else None)
    return name is None or name not in table("types") or name == target


def _is_deceased(patient: Json) -> bool:
    return patient.get("deceasedBoolean") is True or "deceasedDateTime" in patient
