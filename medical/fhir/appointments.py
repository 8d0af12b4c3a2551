"""Appointments as FHIR: the rows that the JSON API works with, and beside them what clients say without a column.

Source: https://hl7.org/fhir/R4/appointment.html.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Text, cast, select, text

from medical.fhir.slots import TYPES, Key, instant, key_of, service_type
from medical.platform.db import db, scope_organization
from medical.records.codec import decode, encode
from medical.records.errors import InvalidResource
from medical.records.labels import CONFIDENTIALITY, is_sensitive
from medical.records.models import AppointmentDocument
from medical.records.validation import Issue, validate
from medical.records.values import span_asked
from medical.scheduling import service
from medical.scheduling.models import Appointment, AppointmentEvent, AppointmentType, Status

Json = dict[str, Any]
STATUSES = {
    Status.REQUESTED: "pending",
    Status.BOOKED: "booked",
    Status.ARRIVED: "arrived",
    Status.CHECKED_IN: "checked-in",
    Status.IN_PROGRESS: "checked-in",
    Status.FULFILLED: "fulfilled",
    Status.NO_SHOW: "noshow",
    Status.CANCELLED: "cancelled",
    Status.ENTERED_IN_ERROR: "entered-in-error",
}
"""FHIR has no word for a visit that is going on."""
OFF = ("cancelled", "noshow")
OF_ROWS = frozenset(
    {"resourceType", "id", "meta", "status", "start", "end", "minutesDuration", "created", "cancelationReason"}
)
"""Elements that the row alone knows; what clients say of them is not kept beside it."""
KEEP = text(
    """
    INSERT INTO appointment_document (appointment_id, organization_id, document)
    VALUES (:appointment_id, :organization_id, CAST(:document AS jsonb))
    ON CONFLICT (appointment_id) DO UPDATE SET document = excluded.document
    """
)
NEW = ("proposed", "pending", "booked")
"""Statuses in which an appointment comes to be booked; which it gets, its kind decides."""


class Wanted(NamedTuple):
    """What an Appointment asks for."""

    patient_id: UUID
    appointment_type_id: UUID
    start: datetime
    minutes: int | None
    clinician_ids: list[UUID]
    location_id: UUID | None
    specialty: str | None
    reason: str | None
    sensitive: bool


def documents_of(appointments: Sequence[Appointment]) -> list[Json]:
    """The appointments as resources, in three statements, however many there are."""
    ids = [one.id for one in appointments]
    kinds, changed = service.types_by_id(), service.last_changes(ids)
    query = select(AppointmentDocument.appointment_id, cast(AppointmentDocument.document, Text))
    rows = db.session.execute(query.where(AppointmentDocument.appointment_id.in_(ids)))
    said = {appointment_id: decode(text_) for appointment_id, text_ in rows}
    return [
        _document(one, kinds[one.appointment_type_id], changed.get(one.id, one.created_at), said.get(one.id, {}))
        for one in appointments
    ]


def _document(row: Appointment, kind: AppointmentType, changed_at: datetime, said: Json) -> Json:
    """An appointment; what it is about only for those who may know it."""
    made: Json = {"resourceType": "Appointment", "id": str(row.id)}
    made["meta"] = {"versionId": str(row.version), "lastUpdated": instant(changed_at)}
    if row.sensitive:
        made["meta"]["security"] = [{"system": CONFIDENTIALITY, "code": "R"}]
    if row.reason_seen:
        made |= {name: value for name, value in said.items() if name not in ("meta", "participant", "serviceType")}
        if row.reason != reason_of(said):
            made.pop("reasonCode", None)
            made |= {"reasonCode": [{"text": row.reason}]} if row.reason else {}
    made["status"] = STATUSES[Status(row.status)]
    made["serviceType"] = said.get("serviceType") or [service_type(kind)]
    made |= {"start": instant(row.start_at), "end": instant(row.end_at), "created": instant(row.created_at)}
    made["minutesDuration"] = (row.end_at - row.start_at) // timedelta(minutes=1)
    if made["status"] in OFF and row.status_reason:
        made["cancelationReason"] = {"text": row.status_reason}
    made["participant"] = _participants(row, said.get("participant", []))
    return made


def version_of(now: Json, event: AppointmentEvent) -> Json:
    """What an appointment was, after one of the changes to it."""
    made = {name: value for name, value in now.items() if name != "cancelationReason"}
    made["meta"] = now["meta"] | {"versionId": str(event.version), "lastUpdated": instant(event.occurred_at)}
    made["status"] = STATUSES[Status(event.status)]
    made |= {"start": instant(event.start_at), "end": instant(event.end_at)}
    made["minutesDuration"] = (event.end_at - event.start_at) // timedelta(minutes=1)
    if made["status"] in OFF and event.reason and "reasonCode" in now:
        made["cancelationReason"] = {"text": event.reason}
    who = {"actor": {"reference": f"Practitioner/{event.clinician_id}"}, "status": "accepted"}
    others = [one for one in now["participant"] if not _actor(one).startswith("Practitioner/")]
    return made | {"participant": [*others, who]}


def cause_of(document: Json) -> str | None:
    """Why it is off, as people read it."""
    return _text(document["cancelationReason"]) if "cancelationReason" in document else None


def _participants(row: Appointment, said: Sequence[Json]) -> list[Json]:
    """Who takes part, as the client said it where that is still so."""
    actors = [f"Patient/{row.patient_id}"]
    actors += [f"Practitioner/{one}" for one in (row.clinician_id, *(row.with_clinician_ids or ()))]
    actors += [f"Location/{row.location_id}"] if row.location_id else []
    kept = {_actor(one): one for one in said}
    status = "needs-action" if row.status == Status.REQUESTED else "accepted"
    known = ("Patient/", "Practitioner/", "PractitionerRole/", "Location/")
    others = [one for name, one in kept.items() if not name.startswith(known)]
    return [*(kept.get(one) or {"actor": {"reference": one}, "status": status} for one in actors), *others]


def _actor(participant: Json) -> str:
    """Whom a participant is, by type and id."""
    reference = str(participant.get("actor", {}).get("reference", ""))
    return "/".join(reference.split("/")[-2:])


def keep(appointment_id: UUID, document: Json) -> None:
    """Keep what a client said of an appointment that the row does not know."""
    said = {name: value for name, value in document.items() if name.lstrip("_") not in OF_ROWS}
    values = {"appointment_id": appointment_id, "organization_id": scope_organization()}
    db.session.execute(KEEP, values | {"document": encode(said).decode()})


def wanted_of(document: Json) -> Wanted:
    """What an Appointment asks for. Raises ``InvalidResource`` with everything that is wrong, or missing here."""
    if issues := validate(document):
        raise InvalidResource(issues)
    slot = _slot(document)
    people: dict[str, list[UUID]] = {name: [*_ids(document, name)] for name in ("Patient", "Practitioner", "Location")}
    people["Practitioner"] += [*_ids(document, "PractitionerRole")]
    if slot and not people["Practitioner"]:
        people["Practitioner"].append(slot.clinician_id)
    kind = _kind(document, slot)
    specialty = next((said for one in document.get("specialty", ()) if (said := _text(one))), None)
    start = span_asked(document["start"])[0] if "start" in document else slot.start if slot else None
    if len(people["Patient"]) != 1:
        issues.append(Issue("business-rule", "Appointment.participant", "must name one Patient who is known here"))
    if not people["Practitioner"] and not specialty:
        issues.append(
            Issue("business-rule", "Appointment.participant", "must name a Practitioner, or there is a specialty")
        )
    if kind is None:
        diagnostics = f"must be a kind of visit of this clinic: {', '.join(_names())}"[:400]
        issues.append(Issue("business-rule", "Appointment.serviceType", diagnostics))
    if start is None:
        issues.append(Issue("required", "Appointment.start", "is required, or a slot that says it"))
    if issues or kind is None or start is None:
        raise InvalidResource(issues)
    return Wanted(
        patient_id=people["Patient"][0],
        appointment_type_id=kind.id,
        start=start,
        minutes=_minutes(document, start, slot, kind),
        clinician_ids=list(dict.fromkeys(people["Practitioner"])),
        location_id=next(iter(people["Location"]), None),
        specialty=specialty,
        reason=reason_of(document),
        sensitive=is_sensitive(document),
    )


def _names() -> Iterator[str]:
    return (kind.name for kind in service.types_by_id().values())


def _ids(document: Json, type_name: str) -> Iterator[UUID]:
    """The ids of the participants of a type."""
    for one in document.get("participant", ()):
        kind, _, fhir_id = _actor(one).partition("/")
        if kind == type_name:
            try:
                yield UUID(fhir_id)
            except ValueError:
                continue  # somebody who is not known here; who must be there is looked for above


def _slot(document: Json) -> Key | None:
    """The first of the Slots that it names."""
    for one in document.get("slot", ()):
        if key := key_of(str(one.get("reference", "")).rpartition("/")[2]):
            return key
    return None


def _kind(document: Json, slot: Key | None) -> AppointmentType | None:
    """The kind of visit, by our code or by its name; of a Slot, the Slot's; the only one there is."""
    kinds: Mapping[UUID, AppointmentType] = service.types_by_id()
    by_code = {str(kind.id): kind for kind in kinds.values()}
    by_name = {kind.name.casefold(): kind for kind in kinds.values()}
    concepts = [*document.get("serviceType", ()), document.get("appointmentType", {})]
    for concept in concepts:
        for coding in concept.get("coding", ()):
            if coding.get("system") == TYPES and coding.get("code") in by_code:
                return by_code[coding["code"]]
    if slot and slot.appointment_type_id in kinds:
        return kinds[slot.appointment_type_id]
    for concept in concepts:
        for name in (concept.get("text"), *(one.get("display") for one in concept.get("coding", ()))):
            if name and name.casefold() in by_name:
                return by_name[name.casefold()]
    return next(iter(kinds.values())) if len(kinds) == 1 else None


def _minutes(document: Json, start: datetime, slot: Key | None, kind: AppointmentType) -> int | None:
    """How long it is to last, where that is not as usual."""
    if "end" in document:
        minutes = (span_asked(document["end"])[0] - start) // timedelta(minutes=1)
    else:
        minutes = document.get("minutesDuration") or (slot.minutes if slot else kind.duration_minutes)
    return None if minutes == kind.duration_minutes else minutes


def reason_of(document: Json) -> str | None:
    """Why the patient comes, as people read it."""
    texts = [_text(one) for one in document.get("reasonCode", ())] or [document.get("description")]
    return "; ".join(one for one in texts if one)[:2000] or None


def _text(concept: Json) -> str | None:
    coding = concept.get("coding", [{}])[0]
    said: str | None = concept.get("text") or coding.get("display") or coding.get("code")
    return said
