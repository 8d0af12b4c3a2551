"""Two patients who are one: what is of one becomes the other's, with a trace by which that is undone."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.attributes import flag_modified

from medical.audit import service as audit
from medical.people import service as people
from medical.people.errors import BothBusy, BothHaveAccounts, MergeUndone, PatientMerged
from medical.people.models import Patient, PatientMerge
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import constraint_of, db, scope_organization, unattended
from medical.platform.errors import FieldProblem, InvalidRequest, NotFound

ROWS = text("SELECT move_patient_rows(:source, :target, :only)").bindparams(
    bindparam("only", type_=JSONB(none_as_null=True))
)
ONE_PLACE = "ex_allocation_bookable_id_during"
"""The constraint that lets nobody be at two visits at once."""
ABOUT = text(
    """
    SELECT v.resource_id FROM resource_value v JOIN resource r ON r.id = v.resource_id
    WHERE v.organization_id = :organization_id AND v.target_type = 'Patient' AND v.target_id = :source
      AND r.type <> 'Patient'
    UNION SELECT r.id FROM resource r WHERE r.patient_id = CAST(:source AS uuid) AND r.type <> 'Patient'
    """
)
"""The resources that speak of a patient, in whosever record they are."""
KEEP = text(
    """
    INSERT INTO resource_version (id, organization_id, resource_id, version, updated_at, deleted, document)
    SELECT gen_random_uuid(), organization_id, id, version, updated_at, deleted, document
    FROM resource WHERE id = ANY(CAST(:ids AS uuid[]))
    """
)
REWRITE = text(
    """
    UPDATE resource SET version = version + 1, updated_at = :now,
        patient_id = CASE WHEN patient_id = CAST(:source AS uuid) THEN CAST(:target AS uuid) ELSE patient_id END,
        document = jsonb_set(
            jsonb_set(replace(document::text, 'Patient/' || :source, 'Patient/' || :target)::jsonb,
                      '{meta,versionId}', to_jsonb(CAST(version + 1 AS text))),
            '{meta,lastUpdated}', to_jsonb(CAST(:stamp AS text)))
    WHERE id = ANY(CAST(:ids AS uuid[]))
    """
)
POINT = text(
    """
    WITH gone AS (
        DELETE FROM resource_value WHERE resource_id = ANY(CAST(:ids AS uuid[]))
          AND organization_id = :organization_id
          AND (target_type = 'Patient' AND target_id = :source OR subject_id = CAST(:source AS uuid)) RETURNING *
    )
    INSERT INTO resource_value (organization_id, resource_id, type, parameter, system, code, text, low, high, since,
                                until, target_type, target_id, subject_id)
    SELECT organization_id, resource_id, type, parameter, system, code, text, low, high, since, until, target_type,
           CASE WHEN target_type = 'Patient' AND target_id = :source THEN :target ELSE target_id END,
           CASE WHEN subject_id = CAST(:source AS uuid) THEN CAST(:target AS uuid) ELSE subject_id END
    FROM gone
    """
)


def merge(actor: Actor, target_id: UUID, *, source_patient_id: UUID, reason: str) -> PatientMerge:
    """Let one patient be another: visits, records, identifiers, care and the account become the target's.

    Broken glasses, proxies and calendar feeds stay with the source, whom nothing is done with any more. Raises
    ``NotFound``, ``PatientMerged``, ``BothHaveAccounts``, ``BothBusy`` or ``InvalidRequest`` for one and the same.
    """
    if source_patient_id == target_id:
        raise InvalidRequest([FieldProblem("/source_patient_id", "is the patient who shall stay")])
    source, target = _both(actor, source_patient_id, target_id)
    if source.merged_into or target.merged_into:
        raise PatientMerged
    if source.user_id and target.user_id:
        raise BothHaveAccounts
    moved: dict[str, Any] = _move_rows(source.id, target.id, None)
    moved["resource"] = _move_resources(source.id, target.id, None)
    moved["account"] = str(source.user_id) if source.user_id else None
    source.merged_into = target.id
    _give_account(source, target)
    row = PatientMerge(
        source_patient_id=source.id,
        target_patient_id=target.id,
        reason=reason,
        moved=moved,
        merged_by=actor.user_id,
        merged_at=clock.now(),
    )
    db.session.add(row)
    _flush(source, target)
    return row


def undo(actor: Actor, target_id: UUID, merge_id: UUID) -> PatientMerge:
    """Let two patients be two again: what was moved, and is still there, goes back; what came since stays.

    Raises ``NotFound``, ``MergeUndone`` or ``BothBusy``.
    """
    row = db.session.get(PatientMerge, merge_id, with_for_update=True)
    if row is None or row.target_patient_id != target_id:
        audit.touch("patient", target_id, patient_id=target_id)
        raise NotFound
    source, target = _both(actor, row.source_patient_id, target_id)
    if row.undone_at or target.merged_into or source.merged_into != target.id:
        raise MergeUndone
    _move_rows(target.id, source.id, row.moved)
    _move_resources(target.id, source.id, row.moved["resource"])
    source.merged_into = None
    if row.moved["account"] and str(target.user_id) == row.moved["account"]:
        _give_account(target, source)
    row.undone_by, row.undone_at = actor.user_id, clock.now()
    _flush(source, target)
    return row


def merges_of(actor: Actor, patient_id: UUID) -> Sequence[PatientMerge]:
    """Whom a patient was merged with, the latest first. Raises ``NotFound``."""
    people.get_visible_patient(actor, patient_id)
    either = (PatientMerge.target_patient_id == patient_id) | (PatientMerge.source_patient_id == patient_id)
    query = select(PatientMerge).where(either).order_by(PatientMerge.merged_at.desc(), PatientMerge.id.desc())
    return db.session.scalars(query).all()


def _both(actor: Actor, source_id: UUID, target_id: UUID) -> tuple[Patient, Patient]:
    """The two patients, locked in the order of their ids. Raises ``NotFound``."""
    found = {
        one: people.get_visible_patient(actor, one, identifiers=True, lock=True)
        for one in sorted((source_id, target_id))
    }
    return found[source_id], found[target_id]


def _move_rows(source_id: UUID, target_id: UUID, only: dict[str, Any] | None) -> dict[str, Any]:
    """Ids of the rows that were moved, by table. Raises ``BothBusy``."""
    values = {"source": source_id, "target": target_id, "only": only}
    try:
        moved: dict[str, Any] = db.session.scalar(ROWS, values)
    except DBAPIError as error:
        if constraint_of(error) == ONE_PLACE:
            raise BothBusy from error
        raise
    return moved


def _move_resources(source_id: UUID, target_id: UUID, only: Sequence[str] | None) -> list[str]:
    """Ids of the resources that speak of the other patient now, in a version of their own."""
    with unattended():
        about = {"organization_id": scope_organization(), "source": str(source_id)}
        found = {str(one) for one in db.session.scalars(ABOUT, about)}
        ids = sorted(found if only is None else found.intersection(only))
        if ids:
            now = clock.now()
            stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            moving = {"source": str(source_id), "target": str(target_id), "ids": ids}
            db.session.execute(KEEP, {"ids": ids})
            db.session.execute(REWRITE, moving | {"now": now, "stamp": stamp})
            db.session.execute(POINT, about | moving)
    return ids


def _give_account(giver: Patient, taker: Patient) -> None:
    """The account of one patient becomes the other's; nobody's at no moment, for an account has one patient."""
    user_id, giver.user_id = giver.user_id, None
    db.session.flush()
    taker.user_id = user_id or taker.user_id


def _flush(source: Patient, target: Patient) -> None:
    """Write both patients in a version of their own, and their resources: their identifiers have moved."""
    for patient in (source, target):
        flag_modified(patient, "given_name")
    db.session.flush()
    for patient in (source, target):
        db.session.refresh(patient, ["identifiers"])
        people.tell(patient)
