"""What is read of resources; every SELECT of them starts from `visible_resources`."""

from collections.abc import Collection
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
    text,
)

from medical.identity.permissions import Role
from medical.platform.authz import Actor
from medical.platform.db import Ready, db
from medical.platform.errors import Forbidden
from medical.records import scopes
from medical.records.models import Resource

Named = str | BindParameter[str]
COLUMNS: tuple[Any, ...] = (
    Resource.id,
    Resource.type,
    Resource.fhir_id,
    Resource.version,
    Resource.updated_at,
    Resource.deleted,
    Resource.patient_id,
    cast(Resource.document, Text),
)
"""What is read of a resource: those of `Stored`."""

WRITABLE = """
    SELECT p.id FROM patient p WHERE p.id = ANY(%(ids)s::uuid[])
      AND (%(any_patient)s OR p.id IN (SELECT cared_patients(caller_id())))
"""

TAKEN = text("SELECT resource_id_taken(:type, :fhir_id)")


def is_taken(type_name: str, fhir_id: str) -> bool:
    """Whether there is such a resource in the organisation, whoever sees it."""
    return bool(db.session.scalar(TAKEN, {"type": type_name, "fhir_id": fhir_id}))


def visible_resources(actor: Actor, interaction: str) -> Select[Resource]:
    """The resources this actor may see: of patients they care for, of themselves and those they act for, and of nobody.

    A service client sees all. What is of a patient who is not known here is seen by who wrote it. Through an app,
    only what its scopes allow this ``interaction`` with: ``r`` reading one, ``s`` finding, ``u``, ``d``.
    """
    query = _seen(Role.SERVICE in actor.roles, actor.user_id)
    reached = scopes.reached(actor, interaction)
    return query if reached is None else query.where(reached)


def _seen(everybodys: bool, caller: UUID | BindParameter[UUID]) -> Select[Resource]:
    """What somebody sees who calls without an app."""
    return select(Resource) if everybodys else select(Resource).where(_is_seen(caller))


def find(actor: Actor, interaction: str, type_name: str, fhir_id: str) -> Row[Any] | None:
    """The columns of a resource that the actor may see."""
    if actor.app is None:
        values = {"type_name": type_name, "fhir_id": fhir_id, "caller": actor.user_id}
        return _finding(Role.SERVICE in actor.roles).rows(**values).first()
    return db.session.execute(named(visible_resources(actor, interaction), type_name, fhir_id)).first()


def named(query: Select[Resource], type_name: Named, fhir_id: Named) -> Select[Any]:
    """The columns of the resource of this type and id, if it is among those of ``query``."""
    return query.where(Resource.type == type_name, Resource.fhir_id == fhir_id).with_only_columns(*COLUMNS)


@cache
def _finding(everybodys: bool) -> Ready:
    """The same SELECT for whoever calls without an app, ready to run."""
    query = _seen(everybodys, bindparam("caller", type_=Uuid()))
    return Ready(named(query, bindparam("type_name"), bindparam("fhir_id")))


def beyond(actor: Actor, ids: Collection[UUID], interaction: str) -> bool:
    """Whether one of the resources, as they are now, is beyond what the actor's app may do this with."""
    reached = scopes.reached(actor, interaction)
    if reached is None or not ids:
        return False
    query = select(func.count()).select_from(Resource).where(Resource.id.in_(ids), reached)
    return db.session.scalar(query) != len(set(ids))


def ensure_reached(actor: Actor, ids: Collection[UUID], interaction: str) -> None:
    """Raise ``Forbidden`` where one of the resources is ``beyond`` the actor's app."""
    if beyond(actor, ids, interaction):
        raise Forbidden("No scope of the app's token allows this of this resource.")


def _is_seen(caller: UUID | BindParameter[UUID]) -> ColumnElement[bool]:
    return or_(
        Resource.open,
        Resource.patient_id.in_(select(func.cared_patients(caller))),
        Resource.patient_id.in_(select(func.own_patients(caller))),
        and_(~Resource.sensitive, Resource.patient_id.in_(select(func.proxied_patients(caller, "record")))),
        and_(Resource.patient_id.is_(None), Resource.created_by == caller),
    )


def writable_patients(actor: Actor, patient_ids: Collection[UUID]) -> set[UUID]:
    """Those of the patients in whose record the actor may write: whom they care for; service clients everybody's."""
    if not patient_ids:
        return set()
    values = {"ids": [*patient_ids], "any_patient": Role.SERVICE in actor.roles}
    return set(db.session.connection().exec_driver_sql(WRITABLE, values).scalars())
