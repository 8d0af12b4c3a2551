"""A patient's record in short: the International Patient Summary. Source: https://hl7.org/fhir/uv/ips/STU2/."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple
from uuid import UUID

from medical.audit import service as audit
from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.records import patients, search, service
from medical.records.codec import decode
from medical.records.criteria import Searcher
from medical.records.models import Resource
from medical.records.queries import COLUMNS
from medical.records.service import Stored

Json = dict[str, Any]
LOINC = "http://loinc.org"
MOST = 2000
"""Resources that are looked at, the latest first."""
MOST_IN_SECTION = 50
NOW = frozenset({"active", "recurrence", "relapse"})
DATES = (
    "effectiveDateTime", "performedDateTime", "performedPeriod", "occurrenceDateTime", "onsetDateTime", "authoredOn",
    "recordedDate", "issued",
)  # fmt: skip


class Section(NamedTuple):
    """A part of the summary."""

    title: str
    code: str
    required: bool
    holds: Callable[[Json], bool]


def _codes(resource: Json, element: str) -> set[str]:
    """The codes of an element that has one concept or several."""
    value = resource.get(element, [])
    concepts = value if isinstance(value, list) else [value]
    return {str(coding.get("code")) for one in concepts for coding in one.get("coding", ())}


def is_now(resource: Json) -> bool:
    """Whether a problem or an allergy is there now, by its clinical status; one that has none is."""
    return not (codes := _codes(resource, "clinicalStatus")) or bool(codes & NOW)


def _of(*types: str) -> Callable[[Json], bool]:
    return lambda one: one["resourceType"] in types


def _observed(category: str) -> Callable[[Json], bool]:
    def holds(one: Json) -> bool:
        done = one.get("status") in ("final", "amended", "corrected")
        return one["resourceType"] == "Observation" and done and category in _codes(one, "category")

    return holds


SECTIONS = (
    Section("Problems", "11450-4", True, lambda one: one["resourceType"] == "Condition" and is_now(one)),
    Section("Allergies and intolerances", "48765-2", True, _of("AllergyIntolerance")),
    Section(
        "Medications",
        "10160-0",
        True,
        lambda one: one["resourceType"] in ("MedicationRequest", "MedicationStatement") and one["status"] == "active",
    ),
    Section("Immunizations", "11369-6", False, lambda one: one["resourceType"] == "Immunization" and is_done(one)),
    Section("Results", "30954-2", False, _observed("laboratory")),
    Section("Vital signs", "8716-3", False, _observed("vital-signs")),
    Section("Procedures", "47519-4", False, lambda one: one["resourceType"] == "Procedure" and is_done(one)),
    Section("Past problems", "11348-0", False, lambda one: one["resourceType"] == "Condition" and not is_now(one)),
)
TYPES = (
    "AllergyIntolerance", "Condition", "Immunization", "MedicationRequest", "MedicationStatement", "Observation",
    "Procedure",
)  # fmt: skip


def is_done(resource: Json) -> bool:
    """Whether it was carried out."""
    return resource.get("status") == "completed"


class Summary(NamedTuple):
    """What a summary is put together of: the Composition, and what it refers to."""

    composition: Json
    entries: list[Stored]


def summary(actor: Actor, patient_id: str) -> Summary:
    """The summary of what the actor may see of a patient's record. Raises ``NotFound``."""
    patient = service.read(actor, patients.TYPE, patient_id)
    rows = _latest(actor, patient.patient_id)
    known = [(one, decode(one.body or "")) for one in rows]
    known = [(one, document) for one, document in known if not _in_error(document)]
    sections, used = [], {patient.id: patient}
    for section in SECTIONS:
        held = _one_of_each([(one, document) for one, document in known if section.holds(document)])
        if held or section.required:
            sections.append(_section(section, held))
            used |= {one.id: one for one, _ in held}
    author = search.named(actor, [("Organization", str(scope_organization()))])
    audit.touch(patients.TYPE, None, patient_id=patient.patient_id)
    return Summary(_composition(patient, author, sections), [*used.values(), *author])


def _latest(actor: Actor, patient_id: UUID | None) -> Sequence[Stored]:
    query = Searcher(actor).seen(*COLUMNS).where(Resource.patient_id == patient_id, Resource.type.in_(TYPES))
    rows = db.session.execute(query.order_by(Resource.updated_at.desc(), Resource.id).limit(MOST))
    return [Stored._make(row) for row in rows]


def _in_error(document: Json) -> bool:
    return "entered-in-error" in {document.get("status"), *_codes(document, "verificationStatus")}


def _one_of_each(held: list[tuple[Stored, Json]]) -> list[tuple[Stored, Json]]:
    """The latest of those with the same code, by when care was given."""
    latest: dict[str, tuple[Stored, Json]] = {}
    for one, document in sorted(held, key=lambda each: when_of(each[1]), reverse=True):
        latest.setdefault(f"{one.type} {name_of(document)}", (one, document))
    return [*latest.values()][:MOST_IN_SECTION]


def when_of(document: Json) -> str:
    """When care was given, as it was written; empty where nothing is said."""
    for name in DATES:
        value = document.get(name)
        if value:
            return str(value.get("start", "") if isinstance(value, dict) else value)
    return ""


def name_of(document: Json) -> str:
    """What it is about, as people read it."""
    for element in ("code", "vaccineCode", "medicationCodeableConcept", "type", "category"):
        concept = document.get(element)
        concept = concept[0] if isinstance(concept, list) and concept else concept
        if isinstance(concept, dict):
            coding = concept.get("coding", [{}])[0]
            return str(concept.get("text") or coding.get("display") or coding.get("code"))
    return str(document["resourceType"])


def _section(section: Section, held: list[tuple[Stored, Json]]) -> Json:
    lines = "".join(f"<li>{escape(_line(document))}</li>" for _, document in held)
    text = f"<ul>{lines}</ul>" if held else "<p>Nothing is known here.</p>"
    made: Json = {
        "title": section.title,
        "code": {"coding": [{"system": LOINC, "code": section.code}]},
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{text}</div>'},
    }
    if held:
        return made | {"entry": [{"reference": f"{one.type}/{one.fhir_id}"} for one, _ in held]}
    why = {"system": "http://terminology.hl7.org/CodeSystem/list-empty-reason", "code": "unavailable"}
    return made | {"emptyReason": {"coding": [why]}}


def _line(document: Json) -> str:
    quantity = document.get("valueQuantity", {})
    value = f"{quantity.get('value', '')} {quantity.get('unit', '')}".strip()
    return ", ".join(one for one in (name_of(document), value, when_of(document)[:10]) if one)


def _composition(patient: Stored, author: Sequence[Stored], sections: list[Json]) -> Json:
    who: Json = {"reference": f"Organization/{author[0].fhir_id}"} if author else {"display": "Medical Backend"}
    return {
        "resourceType": "Composition",
        "id": str(new_id()),
        "meta": {"profile": ["http://hl7.org/fhir/uv/ips/StructureDefinition/Composition-uv-ips"]},
        "status": "final",
        "type": {"coding": [{"system": LOINC, "code": "60591-5", "display": "Patient summary Document"}]},
        "subject": {"reference": f"Patient/{patient.fhir_id}"},
        "date": clock.now().isoformat(timespec="seconds"),
        "author": [who],
        "title": "Patient summary",
        "section": sections,
    }
