"""What clinicians do with records, in calls of their own; all of it is kept as FHIR, and read at `/fhir/R4` too."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform import clock
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, page_of, read_cursor
from medical.records import chart, notes, vitals
from medical.records.errors import Gone, NoteNotSigned, NoteSigned, NotYourNote, PatientUnknown
from medical.records.permissions import Permission
from medical.records.schemas import (
    AmendNote,
    DraftNote,
    HappeningOut,
    ItemOut,
    ItemsOut,
    NoteOut,
    Reconcile,
    ReconciledOut,
    RecordVitals,
    TimelineQuery,
    VitalOut,
    VitalsOut,
    WarningOut,
)

bp = Blueprint("records", __name__, url_prefix="/api/v1/patients/<uuid:patient_id>")


@endpoint(
    bp.post("/vitals"),
    permission=Permission.RECORD_EDIT,
    body=RecordVitals,
    returns=(201, VitalsOut),
    errors=[NotFound, PatientUnknown],
    audit=Action.RECORDS_WRITTEN,
    idempotent=True,
)
def record_vitals(patient_id: UUID, body: RecordVitals) -> VitalsOut:
    """Keep vital signs that were measured at one moment; all of them, or none."""
    readings = [one.plain() for one in body.readings]
    kept = vitals.record(current_actor(), patient_id, body.taken_at or clock.now(), readings)
    return VitalsOut(items=[VitalOut.of(one) for one in kept])


@endpoint(
    bp.post("/notes"),
    permission=Permission.RECORD_EDIT,
    body=DraftNote,
    returns=(201, NoteOut),
    errors=[NotFound, PatientUnknown],
    audit=Action.RECORD_CREATED,
    idempotent=True,
    etag=True,
)
def draft_note(patient_id: UUID, body: DraftNote) -> NoteOut:
    """Write a note; it is a draft until its author signs it."""
    return NoteOut.of(notes.draft(current_actor(), patient_id, **body.arguments()))


@endpoint(
    bp.get("/notes/<uuid:note_id>"),
    permission=Permission.RECORD_READ,
    returns=(200, NoteOut),
    errors=[NotFound, Gone],
    audit=Action.RECORD_READ,
    etag=True,
)
def read_note(patient_id: UUID, note_id: UUID) -> NoteOut:
    """Read a note."""
    return NoteOut.of(notes.read(current_actor(), patient_id, str(note_id)))


@endpoint(
    bp.post("/notes/<uuid:note_id>/sign"),
    permission=Permission.RECORD_EDIT,
    returns=(200, NoteOut),
    errors=[NotFound, Gone, NotYourNote, NoteSigned, PatientUnknown],
    audit=Action.RECORD_UPDATED,
    if_match=True,
    etag=True,
)
def sign_note(patient_id: UUID, note_id: UUID, expected_version: int | None) -> NoteOut:
    """Sign one's own draft."""
    return NoteOut.of(notes.sign(current_actor(), patient_id, str(note_id), expected_version))


@endpoint(
    bp.post("/notes/<uuid:note_id>/amend"),
    permission=Permission.RECORD_EDIT,
    body=AmendNote,
    returns=(201, NoteOut),
    errors=[NotFound, Gone, NoteNotSigned, PatientUnknown],
    audit=Action.RECORD_CREATED,
    if_match=True,
    etag=True,
)
def amend_note(patient_id: UUID, note_id: UUID, body: AmendNote, expected_version: int | None) -> NoteOut:
    """Put another note in the place of a signed one, which stays to be read."""
    made = notes.amend(current_actor(), patient_id, str(note_id), expected_version, text=body.text, reason=body.reason)
    return NoteOut.of(made)


@endpoint(
    bp.get("/timeline"),
    permission=Permission.RECORD_READ,
    query=TimelineQuery,
    returns=(200, Page[HappeningOut]),
    errors=[NotFound],
    audit=Action.RECORD_SEARCHED,
)
def show_timeline(patient_id: UUID, query: TimelineQuery) -> Page[HappeningOut]:
    """List what happened to a patient, newest first: visits, findings, results, procedures, prescriptions, notes."""
    rows = chart.timeline(
        current_actor(),
        patient_id,
        start=query.start,
        until=query.until,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )
    return page_of(rows, query.limit, lambda row: HappeningOut.of(row[0]), lambda row: (row[0].at, row[1]))


@endpoint(
    bp.get("/<any(allergies,immunizations,medications,problems):kind>"),
    permission=Permission.RECORD_READ,
    returns=(200, ItemsOut),
    errors=[NotFound],
    audit=Action.RECORD_SEARCHED,
)
def list_items(patient_id: UUID, kind: str) -> ItemsOut:
    """List what is so now: active problems, allergies and medications, or the immunizations that were given."""
    return ItemsOut(items=[ItemOut.of(one) for one in chart.items(current_actor(), patient_id, kind)])


@endpoint(
    bp.post("/reconciliation"),
    permission=Permission.RECORD_EDIT,
    body=Reconcile,
    returns=(200, ReconciledOut),
    errors=[NotFound, PatientUnknown],
    audit=Action.RECORDS_WRITTEN,
    idempotent=True,
)
def reconcile(patient_id: UUID, body: Reconcile) -> ReconciledOut:
    """Write medications and allergies as they were gone through with the patient; what speaks against what is told.

    An allergy speaks against a medication with a code in common, or with a word of its name. That stops nothing.
    """
    actor = current_actor()
    medications, allergies = ([one.plain() for one in some] for some in (body.medications, body.allergies))
    warnings = chart.reconcile(actor, patient_id, medications, allergies)
    lists = {kind: [ItemOut.of(one) for one in chart.items(actor, patient_id, kind)] for kind in KINDS}
    return ReconciledOut(**lists, warnings=[WarningOut.of(one) for one in warnings])


KINDS = ("medications", "allergies")
