"""Clinical notes: drafted, signed, and amended by another that takes its place. Kept as DocumentReferences.

Source: https://hl7.org/fhir/R4/documentreference.html.
"""

import base64
from typing import Any, NamedTuple
from uuid import UUID

from medical.people import service as people
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.errors import NotFound
from medical.records import service
from medical.records.codec import decode
from medical.records.errors import NoteNotSigned, NoteSigned, NotYourNote
from medical.records.service import Stored

Json = dict[str, Any]
TYPE = "DocumentReference"
PROGRESS = {"system": "http://loinc.org", "code": "11506-3", "display": "Progress note"}
PLAIN = "text/plain; charset=utf-8"


class Note(NamedTuple):
    """A note as it is now."""

    id: str
    title: str
    text: str
    status: str
    """``draft``, ``signed``, ``amended``, or ``superseded`` by another."""
    author_id: str | None
    replaces_id: str | None
    version: int


def draft(actor: Actor, patient_id: UUID, *, title: str, text: str) -> Note:
    """A new note that its author has still to sign. Raises ``NotFound``."""
    people.get_visible_patient(actor, patient_id)
    return _note(service.create(actor, _document(actor, patient_id, title, text, "preliminary")))


def read(actor: Actor, patient_id: UUID, note_id: str) -> Note:
    """A note of the patient's. Raises ``NotFound`` or ``Gone``."""
    return _note(_of_patient(actor, patient_id, note_id))


def sign(actor: Actor, patient_id: UUID, note_id: str, expected_version: int | None) -> Note:
    """Let the author stand by a draft: from then on it is only amended.

    Raises ``NotFound``, ``Gone``, ``Stale``, ``NotYourNote`` or ``NoteSigned``.
    """
    stored = _of_patient(actor, patient_id, note_id)
    document = decode(stored.body or "")
    if document.get("docStatus") != "preliminary":
        raise NoteSigned
    if _author(document) != str(actor.user_id):
        raise NotYourNote
    signed = document | {"docStatus": "final", "authenticator": document["author"][0]}
    kept, _ = service.replace(actor, signed, note_id, stored.version if expected_version is None else expected_version)
    return _note(kept)


def amend(
    actor: Actor, patient_id: UUID, note_id: str, expected_version: int | None, *, text: str, reason: str
) -> Note:
    """A signed note in the place of another, which stays to be read and says so.

    Raises ``NotFound``, ``Gone``, ``Stale``, or ``NoteNotSigned`` for a draft, and for what was amended before.
    """
    stored = _of_patient(actor, patient_id, note_id)
    before = decode(stored.body or "")
    if before.get("docStatus") == "preliminary" or before.get("status") != "current":
        raise NoteNotSigned
    version = stored.version if expected_version is None else expected_version
    service.replace(actor, before | {"status": "superseded"}, note_id, version)
    made = _document(actor, patient_id, _title(before), text, "amended") | {"description": reason}
    made["authenticator"] = made["author"][0]
    made["relatesTo"] = [{"code": "replaces", "target": {"reference": f"{TYPE}/{note_id}"}}]
    return _note(service.create(actor, made))


def _of_patient(actor: Actor, patient_id: UUID, note_id: str) -> Stored:
    stored = service.read(actor, TYPE, note_id)
    if stored.patient_id != patient_id:
        raise NotFound
    return stored


def _document(actor: Actor, patient_id: UUID, title: str, text: str, status: str) -> Json:
    now = clock.now().isoformat(timespec="seconds")
    data = base64.b64encode(text.encode()).decode()
    return {
        "resourceType": TYPE,
        "status": "current",
        "docStatus": status,
        "type": {"coding": [PROGRESS]},
        "subject": {"reference": f"Patient/{patient_id}"},
        "date": now,
        "author": [{"reference": f"Practitioner/{actor.user_id}"}],
        "content": [{"attachment": {"contentType": PLAIN, "data": data, "title": title, "creation": now}}],
    }


def _note(stored: Stored) -> Note:
    document = decode(stored.body or "")
    attachment = document["content"][0]["attachment"]
    replaced = next((one for one in document.get("relatesTo", ()) if one["code"] == "replaces"), None)
    words = {"preliminary": "draft", "final": "signed", "amended": "amended"}
    status = document.get("docStatus", "final")
    return Note(
        id=stored.fhir_id,
        title=_title(document),
        text=base64.b64decode(attachment.get("data", "")).decode(errors="replace"),
        status="superseded" if document["status"] == "superseded" else words.get(status, "signed"),
        author_id=_author(document),
        replaces_id=replaced["target"]["reference"].rpartition("/")[2] if replaced else None,
        version=stored.version,
    )


def _title(document: Json) -> str:
    return str(document["content"][0]["attachment"].get("title", "Note"))


def _author(document: Json) -> str | None:
    reference = next((one.get("reference") for one in document.get("author", ())), None)
    return reference.rpartition("/")[2] if reference else None
