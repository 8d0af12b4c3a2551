"""What is done with patients, clinicians and places."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.orm import joinedload
from sqlalchemy.orm.attributes import flag_modified

from medical.audit import service as audit
from medical.identity import directory
from medical.identity import service as identity
from medical.identity.errors import EmailTaken
from medical.identity.permissions import Role
from medical.people import queries
from medical.people.errors import (
    ClinicianExists,
    ContactFieldsOnly,
    IdentifierTaken,
    LocationExists,
    PatientIdTaken,
    PatientMerged,
    PossibleDuplicate,
)
from medical.people.models import Clinician, Location, Patient, PatientIdentifier
from medical.people.permissions import Permission
from medical.platform import authz, metrics
from medical.platform.authz import Actor
from medical.platform.db import db, flush_or_raise, unattended
from medical.platform.errors import NotFound
from medical.platform.ids import new_id
from medical.platform.logging import get_logger

log = get_logger(__name__)
CHANGED: list[Callable[[Patient], None]] = []
"""Who is told of each patient who is new or has changed, in the same transaction."""
CONTACT_FIELDS = frozenset({"email", "phone", "address"})
"""What a patient may change about themselves."""

BREAK_GLASS = "BTG"
"""Purpose of use in the trail (HL7 v3 PurposeOfUse)."""
SHORTEST_SEARCH = 2
"""Characters from which patients one does not care for are found."""

IDENTIFIER_TAKEN = {
    "uq_patient_identifier_organization_id_system_value": IdentifierTaken,
    "pk_patient": PatientIdTaken,
}

ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('register ' || :birth_date, 0))")
"""People born on one day are registered one after the other, so that twins of one request meet."""


def register_account(
    *, email: str, password: str, given_name: str, family_name: str, birth_date: date
) -> tuple[UUID, UUID]:
    """A person opens their own patient account; the ids of user and patient.

    A known email gets the same answer with ids of nobody, so that nobody learns who has an account.
    Raises ``RegistrationClosed``.
    """
    identity.enter_registration()
    savepoint = db.session.begin_nested()
    try:
        user = identity.create_user(
            email=email,
            given_name=given_name,
            family_name=family_name,
            roles=[Role.PATIENT],
            password=password,
        )
    except EmailTaken:
        savepoint.rollback()
        return new_id(), new_id()
    savepoint.commit()
    patient = Patient(
        id=new_id(),
        given_name=given_name,
        family_name=family_name,
        birth_date=birth_date,
        sex="unknown",
        email=email,
        user_id=user.id,
        identifiers=[],
    )
    db.session.add(patient)
    db.session.flush()
    tell(patient)
    audit.touch("patient", patient.id, patient_id=patient.id)
    return user.id, patient.id


def register_patient(
    actor: Actor,
    *,
    identifiers: Sequence[tuple[str, str]],
    confirm_new: bool,
    given_name: str,
    family_name: str,
    birth_date: date,
    **details: Any,
) -> Patient:
    """A new patient of the organisation, whether or not who registers them will see them afterwards.

    Raises ``PossibleDuplicate`` unless ``confirm_new``, with candidates for who may search, and ``IdentifierTaken``.
    """
    with unattended():
        if not confirm_new:
            db.session.execute(ONE_AT_A_TIME, {"birth_date": str(birth_date)})
            _ensure_new(actor, given_name, family_name, birth_date, identifiers)
        patient = _add_patient(
            given_name=given_name,
            family_name=family_name,
            birth_date=birth_date,
            identifiers=[PatientIdentifier(system=system, value=value) for system, value in identifiers],
            **details,
        )
    audit.touch("patient", patient.id, patient_id=patient.id)
    return patient


def _add_patient(**values: Any) -> Patient:
    patient = Patient(**{"id": new_id()} | values)
    db.session.add(patient)
    flush_or_raise(IDENTIFIER_TAKEN)
    tell(patient)
    return patient


def tell(patient: Patient) -> None:
    """Tell those who want to know that a patient is new or has changed, within the transaction."""
    for listener in CHANGED:
        listener(patient)


def _ensure_new(
    actor: Actor, given_name: str, family_name: str, birth_date: date, identifiers: Sequence[tuple[str, str]]
) -> None:
    likely = queries.likely_same(
        given_name=given_name, family_name=family_name, birth_date=birth_date, identifiers=identifiers
    )
    if not likely:
        return
    if not authz.holds(actor, Permission.PATIENT_SEARCH):
        raise PossibleDuplicate
    for patient in likely:
        audit.touch("patient", patient.id, patient_id=patient.id)
    names = ("id", "mrn", "given_name", "family_name", "birth_date", "sex")
    candidates = [{name: getattr(patient, name) for name in names} for patient in likely]
    raise PossibleDuplicate(members={"candidates": msgspec.to_builtins(candidates)})


def search_patients(
    actor: Actor, q: str | None, limit: int, after: queries.PatientKey | None
) -> Sequence[tuple[Patient | queries.Card, float]]:
    """Patients the actor may see that fit ``q``, each with how well; best first.

    Who cares for patients also finds others, as cards.
    """
    audit.searched(q)
    rows: list[tuple[Patient | queries.Card, float]] = [*queries.search_patients(actor, q, limit, after)]
    if q and not actor.roles & queries.DESK and len(q.strip()) >= SHORTEST_SEARCH:
        rows += queries.search_cards(q, limit, after)
        rows.sort(key=lambda row: (-row[1], row[0].family_name, row[0].given_name, row[0].id))
    for patient, _ in rows[:limit]:
        audit.touch("patient", patient.id, patient_id=patient.id)
    return rows


def get_visible_patient(actor: Actor, patient_id: UUID, *, identifiers: bool = False, lock: bool = False) -> Patient:
    """A patient the actor may see, with their identifiers if wanted. Raises ``NotFound`` for all others."""
    query = queries.visible_patients(actor).where(Patient.id == patient_id)
    if identifiers:
        query = query.options(joinedload(Patient.identifiers))
    if lock:
        query = query.with_for_update(of=Patient)
    audit.touch("patient", patient_id, patient_id=patient_id)
    patient = db.session.scalars(query).unique().one_or_none()
    if patient is None:
        alarm_at_own_record(actor, queries.known_patient(patient_id))
        raise NotFound
    note_glass(actor, patient_id)
    return patient


def note_glass(actor: Actor, patient_id: UUID) -> None:
    """Let the trail say so where nothing but a broken glass shows this patient's record to the actor."""
    if not actor.roles & queries.DESK and actor.roles & queries.CARERS and queries.sees_by_glass_alone(patient_id):
        audit.for_purpose(BREAK_GLASS)


def alarm_at_own_record(actor: Actor, patient: queries.Known | None) -> None:
    """Tell the operator when somebody who works here tried to open their own record as staff."""
    if patient and patient.user_id == actor.user_id:
        log.warning("own_record_refused", user_id=str(actor.user_id))
        metrics.OWN_RECORDS.inc()


def get_bookable_patient(actor: Actor, patient_id: UUID) -> queries.Known:
    """A patient whom the actor may book: staff any of the organisation's, others whom they speak for.

    Raises ``NotFound``.
    """
    audit.touch("patient", patient_id, patient_id=patient_id)
    known = queries.known_patient(patient_id)
    if known is None or not (actor.roles & queries.STAFF or known.spoken_for):
        raise NotFound
    return known


def update_patient(actor: Actor, patient_id: UUID, expected_version: int | None, changes: Mapping[str, Any]) -> Patient:
    """Change a patient's details; patients and who acts for them contact details only.

    What comes back is the whole record, so it takes the right to read too.

    Raises ``Forbidden``, ``NotFound``, ``ContactFieldsOnly``, ``Stale`` or ``IdentifierTaken``.
    """
    authz.ensure_holds(actor, Permission.PATIENT_READ)
    patient = get_visible_patient(actor, patient_id, identifiers=True, lock=True)
    beyond = changes.keys() - CONTACT_FIELDS
    if beyond and not actor.roles & queries.DESK and not queries.cares_for(patient_id):
        raise ContactFieldsOnly
    identity.ensure_version(patient.version, expected_version)
    if patient.merged_into:
        raise PatientMerged
    for name, value in changes.items():
        if name == "identifiers":
            _replace_identifiers(patient, value)
        else:
            setattr(patient, name, value)
    flush_or_raise(IDENTIFIER_TAKEN)
    tell(patient)
    return patient


def _replace_identifiers(patient: Patient, wanted: Sequence[tuple[str, str]]) -> None:
    kept = [one for one in patient.identifiers if (one.system, one.value) in wanted]
    present = {(one.system, one.value) for one in kept}
    new = [PatientIdentifier(system=system, value=value) for system, value in wanted if (system, value) not in present]
    patient.identifiers = kept + new
    flag_modified(patient, "given_name")  # so that the version counts this change too


def create_clinician(*, user_id: UUID, specialty: str, time_zone: str, location_id: UUID | None) -> Clinician:
    """Make a user a clinician, with the role. Raises ``NotFound`` or ``ClinicianExists``."""
    user = identity.get_user(user_id, lock=True)
    if not user.active:
        raise NotFound("There is no such user in your organisation.")
    if db.session.get(Clinician, user_id):
        raise ClinicianExists
    if location_id:
        ensure_location(location_id)
    clinician = Clinician(id=user.id, specialty=specialty, time_zone=time_zone, location_id=location_id, user=user)
    db.session.add(clinician)
    flush_or_raise({"pk_clinician": ClinicianExists})
    identity.grant_role(user, Role.CLINICIAN)
    directory.tell(clinician.id)
    audit.touch("clinician", clinician.id)
    return clinician


def get_clinician(clinician_id: UUID) -> Clinician:
    """An active clinician of the organisation. Raises ``NotFound``."""
    clinician = db.session.scalars(queries.clinicians().where(Clinician.id == clinician_id)).first()
    if clinician is None:
        raise NotFound
    return clinician


list_clinicians = queries.list_clinicians
list_locations = queries.list_locations
own_account = queries.own_account


def create_location(*, name: str, time_zone: str) -> Location:
    """A new site of the organisation. Raises ``LocationExists``."""
    location = Location(id=new_id(), name=name, time_zone=time_zone)
    db.session.add(location)
    flush_or_raise({"uq_location_organization_id_name": LocationExists})
    directory.tell(location.id)
    audit.touch("location", location.id)
    return location


def get_location(location_id: UUID) -> Location:
    """A site of the organisation. Raises ``NotFound``."""
    location = db.session.scalars(select(Location).where(Location.id == location_id)).first()
    if location is None:
        raise NotFound
    return location


def ensure_location(location_id: UUID) -> None:
    """Raise ``NotFound`` unless the organisation has this site."""
    if db.session.scalars(select(Location.id).where(Location.id == location_id)).first() is None:
        raise NotFound("There is no such location in your organisation.")
