"""All of one patient's record. Source: https://hl7.org/fhir/R4/patient-operation-everything.html."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, exists, not_, or_, select, tuple_

from medical.audit import service as audit
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.records import patients, service
from medical.records.criteria import VALUES, Searcher
from medical.records.models import Resource
from medical.records.queries import COLUMNS
from medical.records.service import Stored
from medical.records.values import Condition

CARE_DATES = (
    "abatement-date", "authored", "authored-on", "authoredon", "collected", "created", "date", "datetime",
    "datewritten", "effective", "effective-time", "identified", "issued", "occurrence", "onset", "onset-date", "period",
    "received", "recorded", "sent", "start-date", "started", "whenhandedover",
)  # fmt: skip
"""Search parameters that say when care was given, not when it was written down."""


class Wanted(NamedTuple):
    """How much of the record is asked for."""

    size: int
    types: Collection[str] = ()
    since: datetime | None = None
    """Only what was written from then on."""
    start: datetime | None = None
    end: datetime | None = None
    """Only care of this time, and what has no time."""
    after: UUID | None = None


class Everything(NamedTuple):
    """A page of a record."""

    matches: list[Stored]
    included: list[Stored]
    """What it refers to and is of nobody: who treated, where, with what."""
    more: UUID | None
    """Where the next page begins, if there is one."""


def everything(actor: Actor, patient_id: str, wanted: Wanted) -> Everything:
    """A page of what the actor may see of a patient's record, the patient first. Raises ``NotFound``."""
    patient = service.read(actor, patients.TYPE, patient_id)
    searcher = Searcher(actor)
    conditions = [Resource.patient_id == patient.patient_id, Resource.type != patients.TYPE]
    if wanted.types:
        conditions.append(Resource.type.in_(wanted.types))
    if wanted.since:
        conditions.append(Resource.updated_at >= wanted.since)
    if wanted.start or wanted.end:
        conditions.append(_cared_between(wanted.start, wanted.end))
    if wanted.after:
        conditions.append(Resource.id > wanted.after)
    query = searcher.seen(*COLUMNS).where(*conditions).order_by(Resource.id).limit(wanted.size + 1)
    rows = [Stored._make(row) for row in db.session.execute(query)]
    found = rows[: wanted.size]
    more = found[-1].id if len(rows) > wanted.size else None
    unasked = wanted.types and patients.TYPE not in wanted.types
    first = [] if wanted.after or unasked else [patient]
    audit.touch(patients.TYPE, None, patient_id=patient.patient_id)
    return Everything([*first, *found], _spoken_of(searcher, [*first, *found]), more)


def _cared_between(start: datetime | None, end: datetime | None) -> Condition:
    """That a resource says nothing of when care was given, or that it was then."""
    value = VALUES[0]
    dated = and_(
        value.c.resource_id == Resource.id,
        value.c.organization_id == scope_organization(),
        value.c.parameter.in_(CARE_DATES),
        or_(value.c.since.is_not(None), value.c.until.is_not(None)),
    )
    then = [dated]
    if start:
        then.append(or_(value.c.until > start, value.c.until.is_(None)))
    if end:
        then.append(or_(value.c.since < end, value.c.since.is_(None)))
    return or_(not_(exists().where(dated)), exists().where(*then))


def _spoken_of(searcher: Searcher, found: list[Stored]) -> list[Stored]:
    """What these refer to and is of no patient."""
    value = VALUES[0]
    named = select(value.c.target_type, value.c.target_id).where(
        value.c.organization_id == scope_organization(),
        value.c.resource_id.in_([one.id for one in found]),
        value.c.target_id.is_not(None),
    )
    query = searcher.seen(*COLUMNS).where(Resource.open, tuple_(Resource.type, Resource.fhir_id).in_(named))
    return [Stored._make(row) for row in db.session.execute(query.order_by(Resource.id))]
