"""Versions of many resources, newest first. Source: https://hl7.org/fhir/R4/http.html#history."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, Text, cast, literal, select, tuple_, union_all

from medical.audit import service as audit
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.records import queries
from medical.records.models import Resource, ResourceVersion
from medical.records.queries import COLUMNS
from medical.records.service import Stored


class VersionKey(NamedTuple):
    """Where a page of versions ends."""

    updated_at: datetime
    id: UUID
    version: int


class Versions(NamedTuple):
    """A page of versions."""

    found: list[Stored]
    more: VersionKey | None
    """Where the next page begins, if there is one."""


def history(
    actor: Actor,
    type_name: str | None,
    *,
    resource_id: UUID | None,
    since: datetime | None,
    size: int,
    after: VersionKey | None,
) -> Versions:
    """A page of all versions that the actor may see: of one resource, of a type, or of everything."""
    interaction = "r" if resource_id else "s"
    now = queries.visible_resources(actor, interaction).with_only_columns(*COLUMNS)
    former = (
        queries.visible_resources(actor, interaction)
        .join(ResourceVersion, ResourceVersion.resource_id == Resource.id)
        .with_only_columns(
            Resource.id,
            Resource.type,
            Resource.fhir_id,
            ResourceVersion.version,
            ResourceVersion.updated_at,
            ResourceVersion.deleted,
            Resource.patient_id,
            cast(ResourceVersion.document, Text),
        )
    )
    halves = [
        _page(_within(half, table, type_name, resource_id, since), table, size, after)
        for half, table in ((now, Resource), (former, ResourceVersion))
    ]
    both = union_all(*(select(half.subquery()) for half in halves)).subquery()
    order = (both.c.updated_at.desc(), both.c.id.desc(), both.c.version.desc())
    rows = db.session.execute(select(both).order_by(*order).limit(size + 1)).all()
    found = [Stored._make(row) for row in rows[:size]]
    for patient_id in {one.patient_id for one in found}:
        audit.touch(type_name or "Bundle", None, patient_id=patient_id)
    last = found[-1] if len(rows) > size and found else None
    return Versions(found, VersionKey(last.updated_at, last.id, last.version) if last else None)


def _within(
    query: Any, table: Any, type_name: str | None, resource_id: UUID | None, since: datetime | None
) -> Select[Any]:
    """Only what is asked for."""
    conditions = []
    if type_name:
        conditions.append(Resource.type == type_name)
    if resource_id:
        conditions.append(Resource.id == resource_id)
    if since:
        conditions.append(table.updated_at >= since)
    found: Select[Any] = query.where(*conditions)
    return found


def _page(query: Select[Any], table: Any, size: int, after: VersionKey | None) -> Select[Any]:
    """As many of the newest as a page may need."""
    order = (table.updated_at, Resource.id, table.version)
    if after:
        query = query.where(tuple_(*order) < tuple_(*(literal(one) for one in after)))
    return query.order_by(*(one.desc() for one in order)).limit(size + 1)
