"""Patients who are one, over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.people.errors import BothBusy, BothHaveAccounts, MergeUndone, PatientMerged
from medical.people.permissions import Permission
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.records import merging
from medical.records.schemas import MergeOut, MergePatients, MergesOut

bp = Blueprint("merges", __name__, url_prefix="/api/v1/patients/<uuid:patient_id>/merges")


@endpoint(
    bp.post(""),
    permission=Permission.PATIENT_MERGE,
    body=MergePatients,
    returns=(201, MergeOut),
    errors=[PatientMerged, BothHaveAccounts, BothBusy],
    audit=Action.PATIENTS_MERGED,
    idempotent=True,
    step_up=True,
)
def merge(patient_id: UUID, body: MergePatients) -> MergeOut:
    """Say that another patient turned out to be this one: visits, records, identifiers, care and account become theirs.

    The other one stays, names this one as `merged_into`, and nothing is done with them any more.
    """
    return MergeOut.of(merging.merge(current_actor(), patient_id, **body.arguments()))


@endpoint(
    bp.get(""),
    permission=Permission.PATIENT_MERGE,
    returns=(200, MergesOut),
    audit=Action.PATIENT_MERGES_READ,
)
def list_merges(patient_id: UUID) -> MergesOut:
    """List whom a patient was merged with, the latest first."""
    return MergesOut(items=[MergeOut.of(one) for one in merging.merges_of(current_actor(), patient_id)])


@endpoint(
    bp.post("/<uuid:merge_id>/undo"),
    permission=Permission.PATIENT_MERGE,
    returns=(200, MergeOut),
    errors=[MergeUndone, BothBusy],
    audit=Action.PATIENTS_UNMERGED,
    step_up=True,
)
def undo(patient_id: UUID, merge_id: UUID) -> MergeOut:
    """Let two patients be two again: what was moved goes back, what came since stays with this one."""
    return MergeOut.of(merging.undo(current_actor(), patient_id, merge_id))
