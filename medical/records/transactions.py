"""Several writes at once: all of them or none. Source: https://hl7.org/fhir/R4/http.html#transaction."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medical.audit import service as audit
from medical.platform import authz
from medical.platform.authz import Actor
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.records import conditions, service, turns
from medical.records.definitions import resource_types
from medical.records.errors import NothingMatches, UnreadableResource
from medical.records.permissions import Permission
from medical.records.service import Draft, Stored

Json = dict[str, Any]
NEEDED = {
    "DELETE": Permission.RECORD_DELETE,
    "POST": Permission.RECORD_EDIT,
    "PUT": Permission.RECORD_EDIT,
    "PATCH": Permission.RECORD_EDIT,
}
"""What each kind of write takes, in the order in which they are carried out, wherever they stand."""
CONDITIONAL = re.compile(r"(?P<type>[A-Z][A-Za-z]*)\?(?P<query>.+)")


class Act(NamedTuple):
    """One write of several."""

    number: int
    method: str
    type: str
    fhir_id: str | None
    query: str
    """The condition that finds the resource, where no id names it."""
    resource: Json | None
    operations: Any = None
    """Of a JSON Patch."""
    full_url: str | None = None
    """By which the others refer to it."""
    if_none_exist: str | None = None
    if_match: int | None = None


class Done(NamedTuple):
    """What came of a write."""

    status: int
    stored: Stored | None
    """None where there was nothing to delete."""


def carry_out(actor: Actor, acts: Sequence[Act]) -> list[Done]:
    """What came of the acts, in their order, all of which went through.

    Raises what the single writes raise: the transaction must then end without being committed.
    """
    for one in acts:
        authz.ensure_holds(actor, NEEDED[one.method])
    turns.lock(name for one in acts for name in _names_of(one))
    found = _existing(actor, acts)
    twins = _twins(acts, found)
    drafts, names = _drafts(acts, found, twins)
    _ensure_once(acts, found)
    links = Links(actor, acts, names)
    done: dict[int, Done] = {}
    for one in sorted(acts, key=lambda one: [*NEEDED].index(one.method)):
        there = found[one.number]
        if one.method == "DELETE":
            done[one.number] = _deleted(actor, one, there)
        elif one.method == "PUT":
            fhir_id = drafts[one.number]
            document = links.followed(one.resource or {}) | {"id": fhir_id}
            stored, first = service.replace(actor, document, fhir_id, one.if_match)
            done[one.number] = Done(201 if first else 200, stored)
        elif one.method == "PATCH":
            done[one.number] = Done(200, _patched(actor, one, there))
        elif there:
            done[one.number] = Done(200, there)
    made = [one for one in acts if one.method == "POST" and not found[one.number] and one.number not in twins]
    kept = service.create_many(actor, [Draft(links.followed(one.resource or {}), drafts[one.number]) for one in made])
    done |= {one.number: Done(201, stored) for one, stored in zip(made, kept, strict=True)}
    done |= {number: Done(200, done[first].stored) for number, first in twins.items()}
    for patient_id in {stored.patient_id for stored in kept}:
        audit.touch("Bundle", None, patient_id=patient_id)
    return [done[one.number] for one in acts]


def _names_of(act: Act) -> Iterator[str]:
    """What others might write at the same moment: the resource that is named, or what the condition finds."""
    if act.fhir_id:
        yield f"{act.type}/{act.fhir_id}"
    if condition := act.if_none_exist if act.method == "POST" else act.query:
        yield conditions.turn_of(act.type, condition)


def _existing(actor: Actor, acts: Sequence[Act]) -> dict[int, Stored | None]:
    """The resources that conditional writes find. Raises ``UnreadableResource``, or what ``match_many`` raises."""
    asked = {}
    for one in acts:
        query = one.if_none_exist if one.method == "POST" else None if one.fhir_id else one.query
        if one.method != "POST" and not one.fhir_id and not query:
            raise UnreadableResource(f"Bundle.entry[{one.number}] names no resource.")
        if query:
            asked[one.number] = (one.type, query)
    there = conditions.match_many(actor, asked.values())
    return {one.number: there[asked[one.number]] if one.number in asked else None for one in acts}


def _twins(acts: Sequence[Act], found: Mapping[int, Stored | None]) -> dict[int, int]:
    """Creates that would find what an earlier one of them makes, with the number of that one."""
    first: dict[str, int] = {}
    twins = {}
    for one in acts:
        if one.method == "POST" and one.if_none_exist and not found[one.number]:
            earlier = first.setdefault(conditions.turn_of(one.type, one.if_none_exist), one.number)
            if earlier != one.number:
                twins[one.number] = earlier
    return twins


def _drafts(
    acts: Sequence[Act], found: Mapping[int, Stored | None], twins: Mapping[int, int]
) -> tuple[dict[int, str], dict[str, str]]:
    """The ids of what is to be made, by entry; and what references to entries become."""
    drafts: dict[int, str] = {}
    names: dict[str, str] = {}
    for one in acts:
        if one.method not in ("POST", "PUT"):
            continue
        there = found.get(one.number)
        known = there.fhir_id if there else one.fhir_id
        drafts[one.number] = known or drafts.get(twins.get(one.number, -1)) or str(new_id())
        if one.full_url:
            names[one.full_url] = f"{one.type}/{drafts[one.number]}"
    return drafts, names


def _ensure_once(acts: Sequence[Act], found: Mapping[int, Stored | None]) -> None:
    """Raise ``UnreadableResource`` where two entries would write one resource."""
    written = [
        (one.type, there.fhir_id if (there := found.get(one.number)) else one.fhir_id)
        for one in acts
        if one.method in ("PUT", "PATCH", "DELETE") and (one.fhir_id or found.get(one.number))
    ]
    if len(set(written)) < len(written):
        raise UnreadableResource("Two entries write one resource.")


class Links:
    """Follows the references of a transaction's resources."""

    def __init__(self, actor: Actor, acts: Sequence[Act], names: Mapping[str, str]) -> None:
        """``names``: what references to entries become. Raises what ``match_many`` raises."""
        asked = dict(_conditional([one.resource for one in acts]))
        found = conditions.match_many(actor, asked.values())
        self.names = {**names}
        for reference, condition in asked.items():
            if reference in names:
                continue
            if (stored := found[condition]) is None:
                raise NothingMatches(f"Nothing fits the reference `{condition[0]}?…`.")
            self.names[reference] = f"{stored.type}/{stored.fhir_id}"

    def followed(self, value: Any) -> Any:
        """A copy that refers to what entries became, and to what conditions find."""
        if isinstance(value, dict):
            return {
                key: self.names.get(one, one) if key == "reference" and isinstance(one, str) else self.followed(one)
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self.followed(one) for one in value]
        return self.names.get(value, value) if isinstance(value, str) and value.startswith("urn:") else value


def _conditional(value: Any) -> Iterator[tuple[str, tuple[str, str]]]:
    """The references in a value that are conditions, each with its type and query."""
    if isinstance(value, list):
        for one in value:
            yield from _conditional(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key != "reference" or not isinstance(one, str):
                yield from _conditional(one)
            elif "?" in one and (match := CONDITIONAL.fullmatch(one)) and match["type"] in resource_types():
                yield one, (match["type"], match["query"])


def _deleted(actor: Actor, act: Act, there: Stored | None) -> Done:
    fhir_id = there.fhir_id if there else act.fhir_id
    return Done(204, service.delete(actor, act.type, fhir_id, act.if_match) if fhir_id else None)


def _patched(actor: Actor, act: Act, there: Stored | None) -> Stored:
    fhir_id = there.fhir_id if there else act.fhir_id
    if fhir_id is None:
        raise NotFound
    return service.patch(actor, act.type, fhir_id, act.operations, act.if_match)
