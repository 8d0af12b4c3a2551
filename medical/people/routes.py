"""Patients, clinicians, locations and one's own account over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.identity.errors import RegistrationClosed
from medical.identity.permissions import Permission as Account
from medical.people import duplicates, service
from medical.people.errors import (
    ClinicianExists,
    ContactFieldsOnly,
    IdentifierTaken,
    LocationExists,
    PatientMerged,
    PossibleDuplicate,
)
from medical.people.permissions import Permission
from medical.people.queries import PatientKey
from medical.people.schemas import (
    ClinicianOut,
    ClinicianQuery,
    CreateClinician,
    CreateLocation,
    DuplicateOut,
    DuplicatesOut,
    LocationOut,
    MeOut,
    PatientOut,
    PatientQuery,
    Register,
    RegisteredOut,
    RegisterPatient,
    SecondFactorOut,
    UpdatePatient,
)
from medical.platform import authz
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor

MOST_DUPLICATES = 10
me = Blueprint("me", __name__, url_prefix="/api/v1")
patients = Blueprint("patients", __name__, url_prefix="/api/v1/patients")
clinicians = Blueprint("clinicians", __name__, url_prefix="/api/v1/clinicians")
locations = Blueprint("locations", __name__, url_prefix="/api/v1/locations")


@endpoint(
    me.post("/auth/register"),
    body=Register,
    returns=(201, RegisteredOut),
    errors=[RegistrationClosed],
    audit=Action.ACCOUNT_REGISTERED,
    idempotent=True,
)
def register(body: Register) -> RegisteredOut:
    """Open one's own patient account.

    A known email is answered exactly like a new one; then nothing is made.
    """
    user_id, patient_id = service.register_account(**body.arguments())
    return RegisteredOut(user_id=user_id, patient_id=patient_id)


@endpoint(me.get("/me"), permission=Account.SESSION_OWN, returns=(200, MeOut), own_sign_in=True)
def get_me() -> MeOut:
    """Who I am signed in as, and what I may do."""
    actor = current_actor()
    own = service.own_account(actor.user_id)
    return MeOut(
        id=actor.user_id,
        email=actor.email,
        given_name=own.given_name,
        family_name=own.family_name,
        roles=sorted(actor.roles),
        permissions=sorted(authz.permissions(actor)),
        organization_id=actor.organization_id,
        patient_id=own.patient_id,
        clinician_id=own.clinician_id,
        second_factor=SecondFactorOut(enrolled=own.second_factor, required=actor.second_factor_required),
    )


@endpoint(
    patients.post(""),
    permission=Permission.PATIENT_CREATE,
    body=RegisterPatient,
    returns=(201, PatientOut),
    errors=[PossibleDuplicate, IdentifierTaken],
    audit=Action.PATIENT_REGISTERED,
    idempotent=True,
    etag=True,
)
def register_patient(body: RegisterPatient) -> PatientOut:
    """Register a patient.

    Who may not search patients is not told whom a `possible_duplicate` is like.
    """
    return PatientOut.of(service.register_patient(current_actor(), **body.arguments()))


@endpoint(
    patients.get(""),
    permission=Permission.PATIENT_SEARCH,
    query=PatientQuery,
    returns=(200, Page[PatientOut]),
    audit=Action.PATIENT_SEARCHED,
)
def search_patients(query: PatientQuery) -> Page[PatientOut]:
    """Find patients by name, record number, identifier, phone or birth date.

    Best match first, then by family name, given name, id.
    """
    after = read_cursor(query.cursor, PatientKey)
    rows = service.search_patients(current_actor(), query.q, query.limit, after)
    return page_of(
        rows,
        query.limit,
        lambda row: PatientOut.of(row[0]),
        lambda row: (row[1], row[0].family_name, row[0].given_name, row[0].id),
    )


@endpoint(
    patients.get("/<uuid:patient_id>"),
    permission=Permission.PATIENT_READ,
    returns=(200, PatientOut),
    audit=Action.PATIENT_READ,
    etag=True,
)
def get_patient(patient_id: UUID) -> PatientOut:
    """Read a patient."""
    return PatientOut.of(service.get_visible_patient(current_actor(), patient_id, identifiers=True))


@endpoint(
    patients.get("/<uuid:patient_id>/duplicates"),
    permission=Permission.PATIENT_SEARCH,
    returns=(200, DuplicatesOut),
    audit=Action.PATIENT_SEARCHED,
)
def list_duplicates(patient_id: UUID) -> DuplicatesOut:
    """List who may be the same person as a patient: at most ten, of those whose records the caller sees."""
    found = duplicates.duplicates_of(current_actor(), patient_id, MOST_DUPLICATES)
    items = [DuplicateOut(patient=PatientOut.of(one.patient), score=one.score, reasons=one.reasons) for one in found]
    return DuplicatesOut(items=items)


@endpoint(
    patients.patch("/<uuid:patient_id>"),
    permission=Permission.PATIENT_UPDATE,
    body=UpdatePatient,
    returns=(200, PatientOut),
    errors=[IdentifierTaken, ContactFieldsOnly, PatientMerged],
    audit=Action.PATIENT_UPDATED,
    if_match=True,
    etag=True,
)
def update_patient(patient_id: UUID, body: UpdatePatient, expected_version: int | None) -> PatientOut:
    """Change a patient's details; patients may change their own contact details."""
    return PatientOut.of(service.update_patient(current_actor(), patient_id, expected_version, body.given()))


@endpoint(
    clinicians.post(""),
    permission=Permission.CLINICIAN_CREATE,
    body=CreateClinician,
    returns=(201, ClinicianOut),
    errors=[ClinicianExists, NotFound],
    audit=Action.CLINICIAN_CREATED,
    idempotent=True,
    etag=True,
)
def create_clinician(body: CreateClinician) -> ClinicianOut:
    """Make a user a clinician."""
    return ClinicianOut.of(service.create_clinician(**body.arguments()))


@endpoint(
    clinicians.get(""),
    permission=Permission.CLINICIAN_READ,
    query=ClinicianQuery,
    returns=(200, Page[ClinicianOut]),
)
def list_clinicians(query: ClinicianQuery) -> Page[ClinicianOut]:
    """List active clinicians, ordered by family name, given name, id."""
    rows = service.list_clinicians(
        specialty=query.specialty,
        location_id=query.location_id,
        q=query.q,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[str, str, UUID]),
    )
    return page_of(rows, query.limit, ClinicianOut.of, lambda one: (one.user.family_name, one.user.given_name, one.id))


@endpoint(
    clinicians.get("/<uuid:clinician_id>"),
    permission=Permission.CLINICIAN_READ,
    returns=(200, ClinicianOut),
    etag=True,
)
def get_clinician(clinician_id: UUID) -> ClinicianOut:
    """Read a clinician."""
    return ClinicianOut.of(service.get_clinician(clinician_id))


@endpoint(
    locations.post(""),
    permission=Permission.LOCATION_CREATE,
    body=CreateLocation,
    returns=(201, LocationOut),
    errors=[LocationExists],
    audit=Action.LOCATION_CREATED,
    idempotent=True,
    etag=True,
)
def create_location(body: CreateLocation) -> LocationOut:
    """Add a site."""
    return LocationOut.of(service.create_location(**body.arguments()))


@endpoint(locations.get(""), permission=Permission.LOCATION_READ, query=PageQuery, returns=(200, Page[LocationOut]))
def list_locations(query: PageQuery) -> Page[LocationOut]:
    """List sites, ordered by name, id."""
    rows = service.list_locations(query.limit, read_cursor(query.cursor, tuple[str, UUID]))
    return page_of(rows, query.limit, LocationOut.of, lambda location: (location.name, location.id))


@endpoint(
    locations.get("/<uuid:location_id>"),
    permission=Permission.LOCATION_READ,
    returns=(200, LocationOut),
    etag=True,
)
def get_location(location_id: UUID) -> LocationOut:
    """Read a site."""
    return LocationOut.of(service.get_location(location_id))
