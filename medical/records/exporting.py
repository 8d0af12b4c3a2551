"""Records written out, all that an organisation has."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from sqlalchemy import select

from medical.audit import service as audit
from medical.audit.events import Action
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.records import queries
from medical.records.definitions import resource_types
from medical.records.errors import UnknownParameter
from medical.records.models import Resource
from medical.records.queries import COLUMNS
from medical.records.service import Stored

AT_ONCE = 1000


def types_of(asked: Sequence[str]) -> list[str]:
    """Which of the types there are resources of. Raises ``UnknownParameter`` for what is no type."""
    if unknown := [one for one in asked if one not in resource_types()]:
        raise UnknownParameter(f"FHIR R4 has no type {', '.join(unknown)}.")
    there = db.session.scalars(select(Resource.type).where(~Resource.deleted).distinct().order_by(Resource.type)).all()
    return [one for one in there if not asked or one in asked]


def bodies_of(actor: Actor, type_name: str) -> Iterator[str]:
    """The documents of a type that the actor may see, as JSON; the trail will name their patients."""
    after: UUID | None = None
    while True:
        query = queries.visible_resources(actor, "s").where(Resource.type == type_name, ~Resource.deleted)
        query = query.where(Resource.id > after) if after else query
        rows = db.session.execute(query.with_only_columns(*COLUMNS).order_by(Resource.id).limit(AT_ONCE)).all()
        for stored in map(Stored._make, rows):
            audit.touch("Bundle", None, patient_id=stored.patient_id)
            yield stored.body or ""
        if len(rows) < AT_ONCE:
            return
        after = rows[-1].id


def note() -> None:
    """Write the trail: one event for each patient whose record was written out."""
    audit.record(Action.RECORDS_EXPORTED, "success")
