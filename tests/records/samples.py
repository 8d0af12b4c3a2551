"""Real resources to test with, and what is broken in them on purpose."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

from medical.records.definitions import Property, shape_of

DATA = Path(__file__).parent / "data"
Json = dict[str, Any]
Place = tuple[Any, Any]
"""An object or list, and the key of a value in it."""


def parsed(text: str | bytes) -> Any:
    """JSON with decimals as they were written."""
    return json.loads(text, parse_float=Decimal)


def examples() -> list[Json]:
    """The official examples."""
    return [parsed(line) for line in gzip.decompress((DATA / "examples.ndjson.gz").read_bytes()).splitlines()]


def synthea() -> Json:
    """A transaction with all that is known of one made-up patient."""
    bundle: Json = parsed(gzip.decompress((DATA / "synthea.json.gz").read_bytes()))
    return bundle


def without_server_elements(resource: Json) -> Json:
    """What must come back as it was sent."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    kept = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    return kept | ({"meta": meta} if meta else {})


def places(value: Any) -> Iterator[Place]:
    """Every value in a resource, however deep; narrative aside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        if key not in ("div", "resourceType"):
            yield value, key
            yield from places(one)


def _set(wanted: Callable[[Any], bool], value: Callable[[Any], Any]) -> Callable[[Json, random.Random], bool]:
    """A mutation that replaces one value of a kind."""

    def mutate(resource: Json, chance: random.Random) -> bool:
        fitting = [
            (holder, key) for holder, key in places(resource) if wanted(holder[key]) and isinstance(holder, dict)
        ]
        if not fitting:
            return False
        holder, key = chance.choice(fitting)
        holder[key] = value(holder[key])
        return True

    return mutate


def _add_unknown(resource: Json, chance: random.Random) -> bool:
    objects = [resource, *(holder[key] for holder, key in places(resource) if isinstance(holder[key], dict))]
    chance.choice(objects)["unheardOf"] = "x"
    return True


def _of_type(resource: Json, wanted: Callable[[str, Property], bool]) -> list[str]:
    properties = shape_of(resource["resourceType"]).properties
    return [key for key in resource if key in properties and wanted(key, properties[key])]


def _drop_required(resource: Json, chance: random.Random) -> bool:
    needed = [names for _, names in shape_of(resource["resourceType"]).required]
    if not needed:
        return False
    for name in chance.choice(needed):
        resource.pop(name, None)
        resource.pop("_" + name, None)
    return True


def _two_of_a_choice(resource: Json, chance: random.Random) -> bool:
    choices = [names for _, names in shape_of(resource["resourceType"]).choices if names & resource.keys()]
    if not choices:
        return False
    names = chance.choice(choices)
    other = next(name for name in sorted(names) if name not in resource)
    resource[other] = deepcopy(resource[next(iter(names & resource.keys()))])
    return True


def _bad_code(resource: Json, chance: random.Random) -> bool:
    coded = _of_type(resource, lambda _, one: bool(one.codes and one.check and not one.many))
    if not coded:
        return False
    resource[chance.choice(coded)] = "no-such-code"
    return True


def _bad_date(resource: Json, chance: random.Random) -> bool:
    dated = _of_type(resource, lambda _, one: one.type in ("date", "dateTime", "instant") and not one.many)
    if not dated:
        return False
    resource[chance.choice(dated)] = chance.choice(["2021-02-30", "2021-13-01", "yesterday", "2021-02-03T25:00:00Z"])
    return True


MUTATIONS: dict[str, Callable[[Json, random.Random], bool]] = {
    "an element that there is not": _add_unknown,
    "null": _set(lambda _: True, lambda _: None),
    "an empty list": _set(lambda one: isinstance(one, list), lambda _: []),
    "an empty object": _set(lambda one: isinstance(one, dict), lambda _: {}),
    "an empty text": _set(lambda one: isinstance(one, str), lambda _: ""),
    "an object for a text": _set(lambda one: isinstance(one, str), lambda one: {"value": one}),
    "a text for an object": _set(lambda one: isinstance(one, dict), str),
    "a text for a number": _set(lambda one: isinstance(one, int | Decimal) and not isinstance(one, bool), str),
    "a text for a truth": _set(lambda one: isinstance(one, bool), lambda one: str(one).lower()),
    "one for a list": _set(lambda one: isinstance(one, list), lambda one: one[0]),
    "a list for one": _set(lambda one: not isinstance(one, list), lambda one: [one]),
    "something required missing": _drop_required,
    "two of a choice": _two_of_a_choice,
    "a code that there is not": _bad_code,
    "a day that there is not": _bad_date,
}
"""What can be done to a right resource that makes it wrong; each says whether it found a place for it."""


def mutants(resource: Json, seed: int, each: int = 3) -> Iterator[tuple[str, Json]]:
    """The resource broken in every way that fits it, several times over, each with what was done."""
    chance = random.Random(seed)
    for name, mutate in MUTATIONS.items():
        for _ in range(each):
            broken = deepcopy(resource)
            if mutate(broken, chance):
                yield name, broken
