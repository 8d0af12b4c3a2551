"""A patient's record as clinicians look at it: what happened when, and what is so now. Made of the documents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, tuple_

from medical.people import service as people
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.platform.errors import FieldProblem, InvalidRequest
from medical.platform.ids import new_id
from medical.records import service
from medical.records.codec import decode
from medical.records.criteria import VALUES, Searcher
from medical.records.everything import CARE_DATES
from medical.records.models import Resource
from medical.records.queries import COLUMNS
from medical.records.service import Draft, Stored
from medical.records.summary import is_done, is_now, name_of, when_of

Json = dict[str, Any]
HAPPENINGS = (
    "AllergyIntolerance", "CarePlan", "Condition", "DiagnosticReport", "DocumentReference", "Encounter", "ImagingStudy",
    "Immunization", "MedicationRequest", "MedicationStatement", "Observation", "Procedure", "ServiceRequest",
)  # fmt: skip
KINDS = {
    "allergies": ("AllergyIntolerance",),
    "immunizations": ("Immunization",),
    "medications": ("MedicationRequest", "MedicationStatement"),
    "problems": ("Condition",),
}
"""The lists of a record, and the resources that they are made of."""
CLINICAL = "http://terminology.hl7.org/CodeSystem"
MOST = 1000
SHORTEST_WORD = 4
"""Letters from which a word of an allergy's name is looked for in names of medications."""


class Happening(NamedTuple):
    """Something of a timeline."""

    at: datetime
    type: str
    id: str
    name: str


class Item(NamedTuple):
    """Something of a list."""

    type: str
    id: str
    name: str
    status: str
    since: str | None
    """As it was written: a date, or a moment."""


class Warned(NamedTuple):
    """A medication that somebody takes, and an allergy that speaks against it."""

    medication_id: str
    allergy_id: str
    substance: str


class Entry(NamedTuple):
    """What is to stand on a list: something that is there, or something new."""

    id: str | None
    name: str | None
    system: str | None
    code: str | None
    active: bool


def timeline(
    actor: Actor, patient_id: UUID, *, start: datetime | None, until: datetime | None, limit: int,
    after: tuple[datetime, UUID] | None,
) -> list[tuple[Happening, UUID]]:  # fmt: skip
    """What happened to a patient, newest first, one more than ``limit`` if more follow. Raises ``NotFound``."""
    people.get_visible_patient(actor, patient_id)
    value = VALUES[0]
    dated = select(func.min(value.c.since)).where(
        value.c.resource_id == Resource.id,
        value.c.organization_id == scope_organization(),
        value.c.parameter.in_(CARE_DATES),
    )
    at = dated.scalar_subquery()
    query = Searcher(actor).seen(*COLUMNS, at.label("at")).where(
        Resource.patient_id == patient_id, Resource.type.in_(HAPPENINGS), at.is_not(None)
    )  # fmt: skip
    query = query.where(at >= start) if start else query
    query = query.where(at < until) if until else query
    query = query.where(tuple_(at, Resource.id) < after) if after else query
    rows = db.session.execute(query.order_by(at.desc(), Resource.id.desc()).limit(limit + 1)).all()
    found = [(Stored._make(row[:-1]), row.at) for row in rows]
    return [
        (Happening(moment, one.type, one.fhir_id, name_of(decode(one.body or ""))), one.id) for one, moment in found
    ]


def items(actor: Actor, patient_id: UUID, kind: str) -> list[Item]:
    """What is so now: problems, allergies and medications that are active, immunizations that were given.

    Raises ``NotFound``.
    """
    people.get_visible_patient(actor, patient_id)
    return [_item(document) for _, document in _of_kind(actor, patient_id, kind) if _counts(document)]


def reconcile(actor: Actor, patient_id: UUID, medications: Sequence[Entry], allergies: Sequence[Entry]) -> list[Warned]:
    """Write what somebody takes and must not have, as it was gone through with them; what speaks against what.

    What is there and not named stays. Raises ``NotFound``, or ``InvalidRequest`` for what is on no list of theirs.
    """
    people.get_visible_patient(actor, patient_id)
    problems: list[FieldProblem] = []
    new: list[Draft] = []
    for kind, entries in (("medications", medications), ("allergies", allergies)):
        there = {one.fhir_id: (one, document) for one, document in _of_kind(actor, patient_id, kind)}
        for number, entry in enumerate(entries):
            if entry.id is None:
                new.append(Draft(_new(kind, patient_id, entry), str(new_id())))
            elif entry.id not in there:
                problems.append(FieldProblem(f"/{kind}/{number}/id", "is not on the patient's list"))
            else:
                stored, document = there[entry.id]
                changed = _with_status(document, entry.active)
                if changed != document:
                    service.replace(actor, changed, stored.fhir_id, stored.version)
    if problems:
        raise InvalidRequest(problems)
    service.touch_all(service.create_many(actor, new))
    return _warnings(actor, patient_id)


def _of_kind(actor: Actor, patient_id: UUID, kind: str) -> list[tuple[Stored, Json]]:
    query = Searcher(actor).seen(*COLUMNS).where(Resource.patient_id == patient_id, Resource.type.in_(KINDS[kind]))
    rows = db.session.execute(query.order_by(Resource.updated_at.desc(), Resource.id).limit(MOST))
    return [(one, decode(one.body or "")) for one in map(Stored._make, rows)]


def _counts(document: Json) -> bool:
    """Whether something stands on its list now."""
    if document["resourceType"] == "Immunization":
        return is_done(document)
    if document["resourceType"] in KINDS["medications"]:
        return bool(document["status"] == "active")
    return is_now(document)


def _item(document: Json) -> Item:
    clinical = document.get("clinicalStatus", {}).get("coding", [{}])[0].get("code")
    return Item(
        document["resourceType"],
        document["id"],
        name_of(document),
        str(document.get("status") or clinical or "active"),
        when_of(document) or None,
    )


def _new(kind: str, patient_id: UUID, entry: Entry) -> Json:
    """A resource for what is new on a list."""
    coding = [{"system": entry.system, "code": entry.code}] if entry.system and entry.code else []
    concept: Json = ({"coding": coding} if coding else {}) | ({"text": entry.name} if entry.name else {})
    subject = {"reference": f"Patient/{patient_id}"}
    if kind == "medications":
        status = "active" if entry.active else "stopped"
        return {
            "resourceType": "MedicationStatement",
            "status": status,
            "subject": subject,
            "medicationCodeableConcept": concept,
        }
    made = {"resourceType": "AllergyIntolerance", "patient": subject, "code": concept}
    sure = {"coding": [{"system": f"{CLINICAL}/allergyintolerance-verification", "code": "unconfirmed"}]}
    return made | {"clinicalStatus": _clinical(entry.active), "verificationStatus": sure}


def _with_status(document: Json, active: bool) -> Json:
    if document["resourceType"] == "AllergyIntolerance":
        return document if is_now(document) == active else document | {"clinicalStatus": _clinical(active)}
    return document if (document["status"] == "active") == active else document | {
        "status": "active" if active else "stopped"
    }  # fmt: skip


def _clinical(active: bool) -> Json:
    code = "active" if active else "resolved"
    return {"coding": [{"system": f"{CLINICAL}/allergyintolerance-clinical", "code": code}]}


def _warnings(actor: Actor, patient_id: UUID) -> list[Warned]:
    """Medications that somebody takes and is allergic to: by a code in common, or a word of the name."""
    medications = [one for _, one in _of_kind(actor, patient_id, "medications") if _counts(one)]
    allergies = [one for _, one in _of_kind(actor, patient_id, "allergies") if _counts(one)]
    return [
        Warned(taken["id"], allergy["id"], substance)
        for taken in medications
        for allergy in allergies
        if (substance := _in_common(taken.get("medicationCodeableConcept", {}), allergy.get("code", {})))
    ]


def _in_common(taken: Json, allergy: Json) -> str | None:
    codes = {(one.get("system"), one.get("code")) for one in allergy.get("coding", ()) if one.get("code")}
    if any((one.get("system"), one.get("code")) in codes for one in taken.get("coding", ())):
        return name_of({"code": allergy})
    words = {word for word in _words(allergy) if len(word) >= SHORTEST_WORD} & _words(taken)
    return " ".join(sorted(words)) or None


GENERAL = frozenset(["allergy", "drug", "medication", "oral", "tablet", "capsule", "product", "substance", "acid"])
"""Words that name no substance."""


def _words(concept: Json) -> set[str]:
    texts = [concept.get("text", ""), *(one.get("display", "") for one in concept.get("coding", ()))]
    words = {word for text in texts for word in "".join(c if c.isalnum() else " " for c in text.casefold()).split()}
    return words - GENERAL
