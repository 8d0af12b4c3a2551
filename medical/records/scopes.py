"""What an app reaches of what its user may see: scopes of SMART as conditions on resources."""

from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, or_

from medical.platform.authz import Actor
from medical.platform.errors import Forbidden
from medical.platform.scopes import EVERY, Scope
from medical.records.definitions import resource_types
from medical.records.errors import UnknownParameter
from medical.records.indexing import parameters_of
from medical.records.models import Resource, resource_value
from medical.records.values import Condition, asked_of, fits_value

VALUE = resource_value.alias("scope_value")
READING = frozenset("rs")
BY_ROWS = frozenset({"Appointment", "Schedule", "Slot"})
"""Types that are no documents, and so are not narrowed by search parameters."""


def problem_of(scope: Scope) -> str | None:
    """What is wrong with a scope, if anything is: its type, or the parameters that narrow it."""
    if scope.type not in (EVERY, *resource_types()):
        return f"FHIR R4 has no type {scope.type}"
    if scope.query and scope.type in (EVERY, *BY_ROWS):
        return "names parameters, which is for one type of documents"
    try:
        _criteria(scope)
    except UnknownParameter as problem:
        return problem.detail
    return None


def reached(actor: Actor, letter: str) -> ColumnElement[bool] | None:
    """That the app reaches a resource by this interaction; None where nobody's app acts.

    What is of no patient is read in the context of a patient too, and not written in it.
    """
    if actor.app is None:
        return None
    ways = [_way(one, actor, letter) for one in actor.app.scopes if letter in one.letters]
    return or_(*ways) if ways else false()


def only_patient(actor: Actor, interaction: str, type_name: str) -> UUID | None:
    """The patient to whom scopes confine an app in a type that is no documents; None where nothing does.

    Raises ``Forbidden`` where no scope allows it at all.
    """
    if actor.app is None:
        return None
    ways = actor.app.scopes_for(interaction, type_name)
    if any(one.context != "patient" for one in ways):
        return None
    if not ways or actor.app.patient_id is None:
        raise Forbidden("No scope of the app's token allows this.")
    return actor.app.patient_id


def _way(scope: Scope, actor: Actor, letter: str) -> Condition:
    conditions = [*_criteria(scope)]
    if scope.type != EVERY:
        conditions.append(Resource.type == scope.type)
    if scope.context == "patient":
        patient_id = actor.app.patient_id if actor.app else None
        theirs = Resource.patient_id == patient_id if patient_id else false()
        conditions.append(or_(Resource.open, theirs) if letter in READING else theirs)
    return and_(True, *conditions)


def _criteria(scope: Scope) -> tuple[Condition, ...]:
    """What a resource must fit. Raises ``UnknownParameter``."""
    return tuple(_fitting(scope, name, text) for name, text in scope.criteria)


def _fitting(scope: Scope, name: str, text: str) -> Condition:
    asked = asked_of(name, text)
    parameter = parameters_of(scope.type).get(asked.name)
    if parameter is None or parameter.kind == "reference" or not text:
        raise UnknownParameter(f"a scope is not narrowed by {name[:80]}")
    return fits_value(scope.type, parameter, asked, VALUE)
