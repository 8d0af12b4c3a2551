"""Patients as FHIR: the rows that the desk works with, and beside them what of a Patient has no column.

A row and its resource are one patient with one version. Whoever changes the row changes the resource in the same
transaction, and the reverse; where both say something, the row is right.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import selectinload

from medical.people import service as people
from medical.people.models import Patient, PatientMerge
from medical.people.permissions import Permission
from medical.platform import authz
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.records.definitions import table
from medical.records.errors import PatientIncomplete, UnreadableResource

Json = dict[str, Any]
TYPE = "Patient"
PARTS = {"city": "city", "state": "state", "postal_code": "postalCode", "country": "country"}
"""Parts of an address, as the row and as FHIR names them."""
REPLACED_BY, REPLACES = "replaced-by", "replaces"
"""The types of links to who a patient turned out to be, and to whom they turned out to be."""
LENGTH_OF_A_DAY = 10
LONGEST = 200
"""Characters of a name or identifier that rows have, as at the desk; the document has all of it."""
MISSED = text(
    "SELECT p.id FROM patient p WHERE NOT EXISTS (SELECT FROM resource r WHERE r.organization_id = p.organization_id"
    " AND r.type = 'Patient' AND r.fhir_id = CAST(p.id AS text) AND r.version = p.version) ORDER BY p.id LIMIT :most"
    " FOR UPDATE OF p SKIP LOCKED"
)
SET_VERSION = text("UPDATE patient SET version = :version WHERE id = :id")
ADOPT = text(
    """
    UPDATE resource r SET patient_id = CAST(v.target_id AS uuid)
    FROM unnest(CAST(:ids AS text[])) AS p (id)
    JOIN resource_value v ON v.target_id = p.id
    JOIN unnest(CAST(:types AS text[]), CAST(:parameters AS text[])) AS c (type, parameter)
      ON c.type = v.type AND c.parameter = v.parameter
    WHERE v.organization_id = :organization_id AND v.target_type = 'Patient'
      AND r.id = v.resource_id AND r.patient_id IS NULL AND NOT r.open
    """
)
EACH = text("SELECT id FROM upkeep WHERE CAST(:only AS uuid[]) IS NULL OR id = ANY(:only) ORDER BY id")
AT_ONCE = 200


def is_complete(document: Json) -> bool:
    """Whether the desk can have a row of this Patient: it takes a name and a whole date of birth."""
    said = _said(document)
    return said["birth_date"] is not None and bool(said["family_name"] or said["given_name"])


def person_of(document: Json) -> dict[str, Any]:
    """What of a Patient says who they are, as the desk names it."""
    return {name: value for name, value in _said(document).items() if name != "address"}


def register(actor: Actor, documents: Sequence[Json]) -> None:
    """New rows for Patients who are complete, with the versions that they have as documents.

    Raises ``Forbidden``, ``UnreadableResource`` or ``IdentifierTaken``.
    """
    if documents:
        authz.ensure_holds(actor, Permission.PATIENT_CREATE)
    for document in documents:
        try:
            patient_id = UUID(document["id"])
        except ValueError:
            raise UnreadableResource("The id of a Patient is a UUID.") from None
        people.register_patient(actor, id=patient_id, confirm_new=True, **_columns(document))
        if (version := int(document["meta"]["versionId"])) > 1:
            db.session.execute(SET_VERSION, {"id": patient_id, "version": version})


def adopt(patient_ids: Collection[str]) -> None:
    """Let what was kept of these patients before they were known be theirs, whoever sees it."""
    compartment = [(name, one) for name, some in table("compartments")[TYPE].items() for one in some]
    types, parameters = (list(column) for column in zip(*compartment, strict=True))
    values = {"ids": [*patient_ids], "types": types, "parameters": parameters}
    db.session.execute(ADOPT, values | {"organization_id": scope_organization()})


def change(actor: Actor, document: Json, fhir_id: str, expected_version: int | None) -> Patient:
    """The row of a Patient, changed to what the document says, in its next version: identifiers are always given.

    Raises what ``people.update_patient`` raises, or ``PatientIncomplete``.
    """
    authz.ensure_holds(actor, Permission.PATIENT_UPDATE)
    changes = _columns(document)
    return people.update_patient(actor, UUID(fhir_id), expected_version, changes)


def taken_in(patient_ids: Collection[UUID]) -> dict[UUID, dict[UUID, bool]]:
    """Whom each of these patients was merged with as the one who stays, and whether that was not undone."""
    found: dict[UUID, dict[UUID, bool]] = {}
    if patient_ids:
        columns = (PatientMerge.target_patient_id, PatientMerge.source_patient_id, PatientMerge.undone_at.is_(None))
        query = select(*columns).where(PatientMerge.target_patient_id.in_(patient_ids)).order_by(PatientMerge.merged_at)
        for target, source, lasts in db.session.execute(query):
            found.setdefault(target, {})[source] = lasts
    return found


def document_of(patient: Patient, before: Json | None, others: Mapping[UUID, bool]) -> Json:
    """A Patient: what it was, with what the row says otherwise, and whom of ``others`` (``taken_in``) it replaces."""
    made: Json = dict(before or {"resourceType": TYPE})
    said, row = _said(made), _row(patient)
    if (said["family_name"], said["given_name"]) != (row["family_name"], row["given_name"]):
        name = {"use": "official", "family": row["family_name"], "given": [row["given_name"]]}
        made["name"] = _with_first(
            made.get("name", []), _chosen(made), {one: value for one, value in name.items() if value}
        )
    if said["sex"] != row["sex"]:
        made["gender"] = row["sex"]
    if said["birth_date"] != row["birth_date"]:
        made["birthDate"] = row["birth_date"].isoformat()
        made.pop("_birthDate", None)
    for system in ("email", "phone"):
        if said[system] != row[system]:
            _replace_telecom(made, system, row[system])
    if said["address"] != row["address"]:
        address = _fhir_address(row["address"])
        _keep(made, "address", _with_first(made.get("address", []), 0, address))
    _keep(made, "link", [*_links(made, patient, others)])
    if patient.merged_into:
        made["active"] = False
    elif made.get("active") is False and REPLACED_BY in [one.get("type") for one in (before or {}).get("link", ())]:
        del made["active"]
    if set(said["identifiers"]) != set(row["identifiers"]):
        kept = [one for one in made.get("identifier", []) if _pair(one) is None or _pair(one) in row["identifiers"]]
        there = {_pair(one) for one in kept}
        new = [
            {"system": system, "value": value} for system, value in row["identifiers"] if (system, value) not in there
        ]
        _keep(made, "identifier", [*kept, *new])
    return made


def _links(document: Json, patient: Patient, others: Mapping[UUID, bool]) -> Iterator[Json]:
    """The other Patients that a Patient is linked to; who replaces whom of ours, the rows say."""
    ours = {_link(one, REPLACES)["other"]["reference"] for one in others}
    for one in document.get("link", ()):
        known = one.get("type") == REPLACES and one.get("other", {}).get("reference") in ours
        if not known and one.get("type") != REPLACED_BY:
            yield one
    yield from (_link(one, REPLACES) for one, lasts in others.items() if lasts)
    if patient.merged_into:
        yield _link(patient.merged_into, REPLACED_BY)


def _link(other: UUID, kind: str) -> Json:
    return {"other": {"reference": f"{TYPE}/{other}"}, "type": kind}


def _columns(document: Json) -> dict[str, Any]:
    """What the row has of a Patient. Raises ``PatientIncomplete`` without a name or a whole date of birth."""
    said = _said(document)
    if said["birth_date"] is None or not (said["family_name"] or said["given_name"]):
        raise PatientIncomplete
    return said


def _said(document: Json) -> dict[str, Any]:
    """What a document says of what rows have."""
    number = _chosen(document)
    name = document["name"][number] if number is not None else {}
    born = document.get("birthDate", "")
    addresses = document.get("address", [])
    return {
        "family_name": (name.get("family") or ("" if name.get("given") else name.get("text", "")))[:LONGEST],
        "given_name": " ".join(one for one in name.get("given", ()) if one)[:LONGEST],
        "sex": document.get("gender", "unknown"),
        "birth_date": date.fromisoformat(born) if len(born) == LENGTH_OF_A_DAY else None,
        "email": _telecom(document, "email"),
        "phone": _telecom(document, "phone"),
        "address": _address(addresses[0]) if addresses else None,
        "identifiers": list(dict.fromkeys(filter(None, map(_pair, document.get("identifier", ()))))),
    }


def _row(patient: Patient) -> dict[str, Any]:
    names = ("family_name", "given_name", "sex", "birth_date", "email", "phone")
    address = {name: value for name, value in (patient.address or {}).items() if value}
    own = {"address": address or None, "identifiers": [(one.system, one.value) for one in patient.identifiers]}
    return {name: getattr(patient, name) for name in names} | own


def _chosen(document: Json) -> int | None:
    """Which of the names is the row's: the official one, or the usual one, or the first."""
    names = document.get("name", [])
    for use in ("official", "usual"):
        for number, one in enumerate(names):
            if one.get("use") == use and (one.get("family") or use == "official"):
                return number
    return 0 if names else None


def _telecom(document: Json, system: str) -> str | None:
    return next(
        (one["value"] for one in document.get("telecom", ()) if one.get("system") == system and "value" in one), None
    )


def _replace_telecom(made: Json, system: str, value: str | None) -> None:
    points = made.get("telecom", [])
    number = next((n for n, one in enumerate(points) if one.get("system") == system and "value" in one), None)
    _keep(made, "telecom", _with_first(points, number, {"system": system, "value": value} if value else None))


def _pair(identifier: Mapping[str, Any]) -> tuple[str, str] | None:
    """System and value of an identifier that has both, and that a row can have."""
    system, value = identifier.get("system"), identifier.get("value")
    return (system, value) if system and value and max(len(system), len(value)) <= LONGEST else None


def _address(fhir: Json) -> Json | None:
    own = {name: fhir[part] for name, part in PARTS.items() if part in fhir}
    lines = [one for one in fhir.get("line", ()) if one]
    return (own | ({"line": lines} if lines else {})) or None


def _fhir_address(own: Json | None) -> Json | None:
    if not own:
        return None
    made = {part: own[name] for name, part in PARTS.items() if own.get(name)}
    return made | ({"line": own["line"]} if own.get("line") else {})


def _with_first(values: Sequence[Any], number: int | None, new: Any) -> list[Any]:
    """The list with another value at this place, or one more in front, or one less."""
    kept = [one for n, one in enumerate(values) if n != number]
    return kept if new is None else [*kept[: number or 0], new, *kept[number or 0 :]]


def _keep(made: Json, name: str, values: list[Any]) -> None:
    """A list that is there only with something in it."""
    if values:
        made[name] = values
    else:
        made.pop(name, None)


def missed() -> Sequence[Patient]:
    """Some patients of the present organisation whose rows were changed without their resources."""
    ids = db.session.scalars(MISSED, {"most": AT_ONCE}).all()
    query = select(Patient).where(Patient.id.in_(ids)).options(selectinload(Patient.identifiers))
    return db.session.scalars(query.order_by(Patient.id)).all()
