"""What search finds a resource by: the values of each search parameter, as rows.

The parameters and their expressions are the official ones; what of a value counts is as
https://hl7.org/fhir/R4/search.html says for each kind of parameter.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from medical.records import moments
from medical.records.definitions import table
from medical.records.paths import Found, follow

Json = dict[str, Any]
PATIENT = "patient"
"""The search parameter that says whom a resource is about."""
OWN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONGEST = 400
"""So much of a text is kept for search, in characters: an index takes no more."""
NAMES = ("text", "family", "given", "prefix", "suffix")
PLACES = ("text", "line", "city", "district", "state", "postalCode", "country")


class Parameter(NamedTuple):
    """A search parameter of a type."""

    name: str
    id: str
    """Of HL7's definition."""
    kind: str
    expression: str
    targets: tuple[str, ...]
    components: tuple[tuple[str, str, str], ...]
    """Of a composite: name, kind and expression of each part, the expression from where it begins."""


class Entry(NamedTuple):
    """One value by which a parameter finds a resource; of a composite, both parts."""

    parameter: str
    system: str | None = None
    code: str | None = None
    text: str | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    since: datetime | None = None
    until: datetime | None = None
    target_type: str | None = None
    target_id: str | None = None


@cache
def parameters_of(type_name: str) -> Mapping[str, Parameter]:
    """The search parameters of a type of resource by name, those of all types among them."""
    listed = table("search_parameters")
    own = {**listed["Resource"], **listed.get(type_name, {})}
    kinds = {one["id"]: (name, one["type"]) for some in listed.values() for name, one in some.items()}
    return {
        name: Parameter(
            name,
            one["id"],
            one["type"],
            one["expression"],
            tuple(one.get("target", ())),
            tuple((*kinds[part], path) for part, path in one.get("component", ())),
        )
        for name, one in own.items()
    }


def entries_of(resource: Json) -> list[Entry]:
    """Every value by which a resource is found, each once."""
    found: dict[Entry, None] = {}
    root = Found(resource, resource["resourceType"], None)
    for parameter in parameters_of(resource["resourceType"]).values():
        if parameter.name in ("_id", "_lastUpdated"):
            continue  # columns of their own
        for origin in follow(root, parameter.expression, root):
            made = _composite(origin, parameter, root) if parameter.components else _entries(origin, parameter.kind)
            for entry in made:
                found[_kept(entry, parameter.name)] = None
    return list(found)


def subject_of(entries: Iterable[Entry]) -> UUID | None:
    """The one patient that a resource with these values is about; None where that is nobody, or not plain."""
    about = {(one.target_type, one.target_id) for one in entries if one.parameter == PATIENT}
    [(target_type, target_id)] = about if len(about) == 1 else [(None, None)]
    return uuid_of(target_id) if target_type == "Patient" else None


def uuid_of(fhir_id: str | None) -> UUID | None:
    """An id as a UUID, if it is one as this program writes it."""
    return UUID(fhir_id) if fhir_id and OWN_ID.fullmatch(fhir_id) else None


def _kept(entry: Entry, parameter: str) -> Entry:
    """The value as it is kept for a parameter."""
    texts = {name: getattr(entry, name) for name in ("code", "text", "target_type", "target_id")}
    kept: dict[str, Any] = {name: short(text) for name, text in texts.items() if text}
    return entry._replace(parameter=parameter, **kept)


def short(text: str) -> str:
    """As much of a text as is kept and compared."""
    return text[:LONGEST]


def _composite(origin: Found, parameter: Parameter, root: Found) -> Iterator[Entry]:
    """Each pair of a value of the first part, a token, and one of the second within the same element."""
    (_, first, first_path), (_, second, second_path) = parameter.components[:2]
    for one in follow(origin, first_path, root):
        for token in _entries(one, first):
            for other in follow(origin, second_path, root):
                for value in _entries(other, second):
                    pair = f"{value.system or ''}|{value.code or ''}" if second == "token" else value.text
                    yield value._replace(system=token.system, code=token.code, text=pair)


def _entries(found: Found, kind: str) -> Iterator[Entry]:
    maker = MAKERS.get(kind)
    return maker(found) if maker else iter(())


def _token(found: Found) -> Iterator[Entry]:
    value, kind = found.value, found.type
    if kind == "CodeableConcept":
        for coding in value.get("coding", ()):
            yield Entry("", system=coding.get("system"), code=coding.get("code"))
    elif kind == "Coding":
        yield Entry("", system=value.get("system"), code=value.get("code"))
    elif kind in ("Identifier", "ContactPoint"):
        system = value.get("system") if kind == "Identifier" else None
        if "value" in value:
            yield Entry("", system=system, code=value["value"])
    elif isinstance(value, bool):
        yield Entry("", code=str(value).lower())
    elif isinstance(value, str):
        systems = found.property.systems if found.property else None
        yield Entry("", system=next(iter(systems)) if systems and len(systems) == 1 else None, code=value)


def _string(found: Found) -> Iterator[Entry]:
    value = found.value
    if isinstance(value, str):
        yield _words(value)
    elif isinstance(value, dict):
        for part in NAMES if found.type == "HumanName" else PLACES:
            for one in value[part] if isinstance(value.get(part), list) else [value.get(part)]:
                if isinstance(one, str):
                    yield _words(one)


def _words(text: str) -> Entry:
    return Entry("", code=text, text=plain(text))


def plain(text: str) -> str:
    """A text without case, accents and repeated spaces."""
    parted = unicodedata.normalize("NFKD", text)
    return " ".join("".join(one for one in parted if not unicodedata.combining(one)).casefold().split())


def _date(found: Found) -> Iterator[Entry]:
    for since, until in moments.spans(found.value, found.type):
        yield Entry("", since=since, until=until)


def _reference(found: Found) -> Iterator[Entry]:
    value = found.value
    reference = value.get("reference") if isinstance(value, dict) else value
    if not isinstance(reference, str) or reference.startswith("#"):
        return
    parts = reference.partition("/_history/")[0].split("/")
    if isinstance(value, dict) and len(parts) == 2 and ":" not in parts[0]:
        yield Entry("", target_type=parts[0], target_id=parts[1])
    else:
        yield Entry("", text=reference.partition("|")[0])


def _quantity(found: Found) -> Iterator[Entry]:
    value = found.value
    if not isinstance(value, dict):
        return
    if found.type == "Range":
        unit = value.get("low") or value.get("high") or {}
        yield Entry("", unit.get("system"), unit.get("code"), low=_end(value, "low"), high=_end(value, "high"))
    elif "value" in value:
        unit = value.get("code") or value.get("unit") or value.get("currency")
        number = Decimal(value["value"])
        yield Entry("", value.get("system"), unit, low=number, high=number)


def _number(found: Found) -> Iterator[Entry]:
    value = found.value
    if isinstance(value, dict):
        yield Entry("", low=_end(value, "low"), high=_end(value, "high"))
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield Entry("", low=Decimal(value), high=Decimal(value))


def _end(value: Json, name: str) -> Decimal | None:
    """One end of a Range, if it has it."""
    number = value.get(name, {}).get("value")
    return None if number is None else Decimal(number)


def _uri(found: Found) -> Iterator[Entry]:
    if isinstance(found.value, str):
        yield Entry("", text=found.value)


MAKERS: dict[str, Callable[[Found], Iterator[Entry]]] = {
    "token": _token,
    "string": _string,
    "date": _date,
    "reference": _reference,
    "quantity": _quantity,
    "number": _number,
    "uri": _uri,
}
