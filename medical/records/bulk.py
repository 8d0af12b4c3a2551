"""Many records written to files in the background: HL7's Bulk Data Access.

Each file is a transaction of its own, which also says how far the export is: what is interrupted goes on from there,
and whoever deletes the export meanwhile waits for one file at most. Source: https://hl7.org/fhir/uv/bulkdata/STU2/export.html.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Text, cast, delete, func, select, text

from medical.audit import service as audit
from medical.audit.events import Action
from medical.identity import service as accounts
from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.authz import Actor, App
from medical.platform.db import Scope, db, enter, scope_organization
from medical.platform.errors import NotFound
from medical.platform.scopes import parsed_all
from medical.records import exporting, patients, queries, service
from medical.records.errors import ExportFailed, TooManyExports
from medical.records.models import RecordExport, RecordExportFile, Resource, resource_value
from medical.records.queries import COLUMNS
from medical.records.service import Stored

MOST_AT_ONCE = 2
AT_ONCE = 5_000
"""Resources in a file."""
KEPT = timedelta(hours=24)
"""How long an export can be fetched."""
GIVEN_UP = "the client was closed meanwhile"

ASKED = text("SELECT pg_notify('record_export', CAST(:organization_id AS text))")
"""Tells the program behind the requests that there is something to do, once the transaction commits."""
PATIENTLY = text("SET LOCAL statement_timeout = '5min'")
"""Nobody waits for a file but who asked for it; the limits of requests are shorter."""


class Wanted(NamedTuple):
    """What is to be exported."""

    request: str
    types: Sequence[str] = ()
    since: datetime | None = None
    of_patients: bool = False
    group_id: str | None = None


def ask(actor: Actor, wanted: Wanted) -> RecordExport:
    """An export that will be written. Raises ``TooManyExports``, ``UnknownParameter``, or ``NotFound`` for a Group."""
    if wanted.group_id:
        service.read(actor, "Group", wanted.group_id)
    under_way = (
        select(func.count())
        .select_from(RecordExport)
        .where(RecordExport.created_by == actor.user_id, RecordExport.completed_at.is_(None))
    )
    if (db.session.scalar(under_way) or 0) >= MOST_AT_ONCE:
        raise TooManyExports
    export = RecordExport(
        request=wanted.request,
        types=exporting.types_of(wanted.types),
        since=wanted.since,
        of_patients=wanted.of_patients,
        group_id=wanted.group_id,
        scopes=[str(one) for one in actor.app.scopes] if actor.app else None,
        created_by=actor.user_id,
        created_at=clock.now(),
    )
    db.session.add(export)
    db.session.flush()
    db.session.execute(ASKED, {"organization_id": str(actor.organization_id)})
    audit.touch("export", export.id)
    return export


def get(actor: Actor, export_id: UUID) -> RecordExport:
    """An export of the actor's that is not over yet. Raises ``NotFound``, or ``ExportFailed`` where it was given up."""
    export = db.session.get(RecordExport, export_id)
    if export is None or export.created_by != actor.user_id or _is_over(export):
        raise NotFound
    audit.touch("export", export.id)
    if export.failure:
        raise ExportFailed
    return export


def _is_over(export: RecordExport) -> bool:
    return export.completed_at is not None and export.completed_at + KEPT < clock.now()


def files_of(export: RecordExport) -> Sequence[tuple[int, str, int]]:
    """Number, type and count of each file of an export."""
    columns = (RecordExportFile.number, RecordExportFile.type, RecordExportFile.count)
    query = select(*columns).where(RecordExportFile.export_id == export.id).order_by(RecordExportFile.number)
    return [(number, type_name, count) for number, type_name, count in db.session.execute(query)]


def content_of(actor: Actor, export_id: UUID, number: int) -> bytes:
    """A file of an export that is complete. Raises ``NotFound``."""
    if get(actor, export_id).completed_at is None:
        raise NotFound
    key = (RecordExportFile.export_id == export_id, RecordExportFile.number == number)
    content: bytes | None = db.session.scalar(select(RecordExportFile.content).where(*key))
    if content is None:
        raise NotFound
    return content


def remove(actor: Actor, export_id: UUID) -> None:
    """Forget an export, and whatever was written of it. Raises ``NotFound``."""
    export = db.session.get(RecordExport, export_id)
    if export is None or export.created_by != actor.user_id:
        raise NotFound
    audit.touch("export", export.id)
    db.session.execute(delete(RecordExport).where(RecordExport.id == export_id))


def run(only: Collection[UUID] | None = None) -> int:
    """Write what waits, in every organisation or ``only`` some, and forget what is over; how many were completed."""
    organizations = db.session.scalars(patients.EACH, {"only": None if only is None else [*only]}).all()
    db.session.rollback()
    count = 0
    try:
        for organization_id in organizations:
            _forget(organization_id)
            while (done := _step(organization_id)) is not None:
                count += done
    finally:
        db.session.rollback()
        enter(None)
    return count


def _forget(organization_id: UUID) -> None:
    """Remove the exports of an organisation that can be fetched no more, with their files."""
    enter(Scope(organization_id))
    db.session.execute(delete(RecordExport).where(RecordExport.completed_at < clock.now() - KEPT))
    db.session.commit()


def _step(organization_id: UUID) -> bool | None:
    """Write one file of what waits in an organisation, and commit; whether an export is complete by that.

    None where nothing waits; an export at which another process works waits for nobody.
    """
    enter(Scope(organization_id))
    waiting = select(RecordExport).where(RecordExport.completed_at.is_(None)).order_by(RecordExport.created_at)
    export = db.session.scalars(waiting.limit(1).with_for_update(skip_locked=True)).first()
    if export is None:
        db.session.rollback()
        return None
    enter(Scope(organization_id, export.created_by))
    db.session.execute(PATIENTLY)
    actor = _actor(export)
    if actor is None:
        export.failure, export.completed_at = GIVEN_UP, clock.now()
    elif export.reached < len(export.types):
        _write(actor, export)
    else:
        _complete(actor, export)
    complete = export.completed_at is not None
    db.session.commit()
    return complete


def _actor(export: RecordExport) -> Actor | None:
    """Who asked for the export, with the scopes they had; None where the client was closed."""
    scopes = None if export.scopes is None else App(export.created_by, tuple(parsed_all(export.scopes)))
    if not accounts.is_active(export.created_by):
        return None
    return Actor(
        user_id=export.created_by,
        organization_id=export.organization_id,
        session_id=None,
        email="",
        roles=frozenset({Role.SERVICE}),
        authenticated_at=export.created_at,
        app=scopes,
    )


def _write(actor: Actor, export: RecordExport) -> None:
    """Write the next file, and note how far the export is."""
    type_name = export.types[export.reached]
    conditions = [*_conditions(export), Resource.type == type_name, ~Resource.deleted]
    if export.after:
        conditions.append(Resource.id > export.after)
    query = queries.visible_resources(actor, "s").where(*conditions).with_only_columns(*COLUMNS)
    rows = [Stored._make(row) for row in db.session.execute(query.order_by(Resource.id).limit(AT_ONCE))]
    if rows:
        last = select(func.max(RecordExportFile.number)).where(RecordExportFile.export_id == export.id)
        number = (db.session.scalar(last) or 0) + 1
        content = b"".join((one.body or "").encode() + b"\n" for one in rows)
        file = RecordExportFile(export_id=export.id, number=number, type=type_name, count=len(rows), content=content)
        db.session.add(file)
    if len(rows) == AT_ONCE:
        export.after = rows[-1].id
    else:
        export.reached, export.after = export.reached + 1, None


def _conditions(export: RecordExport) -> list[ColumnElement[bool]]:
    """What is exported, whatever its type."""
    conditions: list[ColumnElement[bool]] = []
    if export.since:
        conditions.append(Resource.updated_at >= export.since)
    if export.of_patients:
        conditions.append(Resource.patient_id.is_not(None))
    if export.group_id:
        group = select(Resource.id).where(Resource.type == "Group", Resource.fhir_id == export.group_id)
        members = select(resource_value.c.target_id).where(
            resource_value.c.organization_id == scope_organization(),
            resource_value.c.resource_id.in_(group),
            resource_value.c.parameter == "member",
            resource_value.c.target_type == "Patient",
        )
        conditions.append(cast(Resource.patient_id, Text).in_(members))
    return conditions


def _complete(actor: Actor, export: RecordExport) -> None:
    """The export can be fetched; the trail names every patient of whom something may be in it."""
    query = queries.visible_resources(actor, "s").where(*_conditions(export), Resource.type.in_(export.types))
    for patient_id in db.session.scalars(query.with_only_columns(Resource.patient_id).distinct()):
        audit.touch("export", export.id, patient_id=patient_id)
    audit.record(Action.RECORDS_EXPORTED, "success")
    export.completed_at = clock.now()
