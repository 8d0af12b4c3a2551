"""Search parameters as conditions on resources. Source: https://hl7.org/fhir/R4/search.html."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import FromClause, Select, and_, exists, or_

from medical.platform.authz import Actor
from medical.platform.db import scope_organization
from medical.records import queries
from medical.records.definitions import resource_types, table
from medical.records.errors import UnknownParameter
from medical.records.indexing import PATIENT, Parameter, parameters_of, uuid_of
from medical.records.models import Resource, resource_value
from medical.records.values import Asked, Condition, asked_of, fits_value, has_value, missing, target

DEEPEST_CHAIN = 4
VALUES = [resource_value.alias(f"value_{depth}") for depth in range(DEEPEST_CHAIN + 2)]
"""The values of resources, by how deep in a chain they are looked at: making these takes a third of a search."""


class Searcher:
    """Makes conditions, each of which finds only what this actor may see."""

    def __init__(self, actor: Actor, subject_id: UUID | None = None) -> None:
        """``subject_id``: the patient whom all is about that can fit; an index over codes has it."""
        self.actor = actor
        self.subject_id = subject_id

    def seen(self, *columns: Any) -> Select[Any]:
        """A SELECT of what the actor sees of resources that were not deleted."""
        return queries.visible_resources(self.actor, "s").where(~Resource.deleted).with_only_columns(*columns)

    def ids_of(self, type_name: str, conditions: Sequence[Condition], *more: Any) -> Select[Any]:
        """A SELECT of resources of a type that the actor sees and that fit; by default of their ids."""
        return self.seen(*(more or (Resource.id,))).where(Resource.type == type_name, *conditions)

    def condition(self, type_name: str, key: str, text: str, depth: int = 0) -> Condition | None:
        """What ``key=text`` asks of a resource of this type; None for a parameter that there is not.

        Raises ``UnknownParameter`` for a modifier or value that it cannot have.
        """
        if "\0" in key or "\0" in text:
            raise UnknownParameter("A text has a character that is kept nowhere.")
        if key.startswith("_has:"):
            return self._reverse(type_name, key, text, depth)
        asked = asked_of(key, text)
        parameter = parameters_of(type_name).get(asked.name)
        if parameter is None:
            return None
        if parameter.kind == "reference":
            return self._reference(type_name, parameter, asked, depth)
        return fits_value(type_name, parameter, asked, VALUES[depth], None if depth else self.subject_id)

    def _reference(self, type_name: str, parameter: Parameter, asked: Asked, depth: int) -> Condition:
        if asked.modifier == "missing":
            return missing(type_name, parameter, asked, VALUES[depth])
        if asked.modifier and asked.modifier not in resource_types():
            raise UnknownParameter(f"`{asked.name}:{asked.modifier}` cannot be asked for.")
        types = [asked.modifier] if asked.modifier else list(parameter.targets)
        value = VALUES[depth]
        if asked.chain is None:
            wanted = or_(*(target(value, one, types) for one in asked.values))
            if self.subject_id and not depth and _names_patient(type_name, parameter.name):
                # What fits the codes is looked at one by one: less than all that is the patient's.
                known = value.c.subject_id == self.subject_id
                wanted = or_(known, and_(value.c.subject_id.is_(None), wanted))
            return has_value(type_name, parameter, value, wanted)
        if depth >= DEEPEST_CHAIN:
            raise UnknownParameter("The chain is too long.")
        ways = [way for one in types if (way := self._chained(value, one, asked, depth)) is not None]
        if not ways:
            raise UnknownParameter(f"`{asked.name}.{asked.chain}` leads nowhere.")
        return has_value(type_name, parameter, value, or_(*ways))

    def _chained(self, value: FromClause, type_name: str, asked: Asked, depth: int) -> Condition | None:
        """That a reference points at a resource of a type that fits the rest of the chain."""
        rest = self.condition(type_name, asked.chain or "", ",".join(asked.values), depth + 1)
        if rest is None:
            return None
        fits = self.ids_of(type_name, [rest], Resource.fhir_id)
        return and_(value.c.target_type == type_name, value.c.target_id.in_(fits))

    def _reverse(self, type_name: str, key: str, text: str, depth: int) -> Condition:
        """``_has:Observation:patient:code``: that something of another type refers to it, and fits."""
        parts = key.split(":", 3)
        if len(parts) < 4 or parts[1] not in resource_types() or depth >= DEEPEST_CHAIN:
            raise UnknownParameter(f"`{key[:80]}` cannot be asked for.")
        _, other, name, rest = parts
        parameter = parameters_of(other).get(name)
        condition = self.condition(other, rest, text, depth + 1)
        if parameter is None or parameter.kind != "reference" or condition is None:
            raise UnknownParameter(f"`{key[:80]}` cannot be asked for.")
        value = VALUES[depth]
        fits = self.ids_of(other, [condition])
        return exists().where(
            value.c.organization_id == scope_organization(),
            value.c.target_type == type_name,
            value.c.target_id == Resource.fhir_id,
            value.c.type == other,
            value.c.parameter == name,
            value.c.resource_id.in_(fits),
        )


def subject_asked(type_name: str, criteria: Sequence[tuple[str, str]]) -> UUID | None:
    """The one patient whom a search of a type by codes is confined to, where that is plain."""
    parameters = parameters_of(type_name)
    naming = [(key, text) for key, text in criteria if _names_patient(type_name, key.partition(":")[0])]
    by_code = any(key in parameters and parameters[key].kind == "token" for key, _ in criteria)
    if len(naming) != 1 or not by_code:
        return None
    [(key, text)] = naming
    name, _, modifier = key.partition(":")
    of_type, _, fhir_id = text.rpartition("/")
    meant = of_type or modifier or ("Patient" if name == PATIENT else "")
    return uuid_of(fhir_id) if meant == "Patient" and modifier in ("", "Patient") else None


@cache
def _names_patient(type_name: str, name: str) -> bool:
    """Whether a parameter finds by all patients by whom ``patient`` does."""
    parameters = parameters_of(type_name)
    patient, asked = parameters.get(PATIENT), parameters.get(name)
    if patient is None or asked is None:
        return False
    return asked is patient or patient.expression == f"{asked.expression}.where(resolve() is Patient)"


def in_compartment(type_name: str, compartment: str, fhir_id: str) -> Condition:
    """That a resource of a type is in a compartment. Source: https://hl7.org/fhir/R4/compartmentdefinition.html."""
    value = VALUES[0]
    return exists().where(
        value.c.organization_id == scope_organization(),
        value.c.resource_id == Resource.id,
        value.c.type == type_name,
        value.c.parameter.in_(table("compartments")[compartment][type_name]),
        value.c.target_type == compartment,
        value.c.target_id == fhir_id,
    )
