"""Wire shapes of patients, clinicians, places and of who one is."""

from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from medical.identity.passwords import NewPassword
from medical.people.duplicates import Reason
from medical.people.models import Clinician, Location, Patient
from medical.people.queries import Card
from medical.platform import clock
from medical.platform.paging import PageQuery
from medical.platform.wire import Email, Input, Output, Text, Version
from medical.platform.zones import TimeZone

EARLIEST_BIRTH = date(1850, 1, 1)
Phone = Annotated[str, Meta(max_length=40, pattern=r"^[+0-9(][0-9 ()./-]{3,39}$", examples=["+49 30 901820"])]
Search = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]


class Sex(StrEnum):
    """FHIR's AdministrativeGender."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    UNKNOWN = "unknown"


class Address(Input, frozen=True, kw_only=True):
    """Where somebody lives, after FHIR's Address."""

    line: Annotated[list[Text], Meta(max_length=5)] = field(default_factory=list)
    city: Text | None = None
    state: Text | None = None
    postal_code: Text | None = None
    country: Text | None = None


class Identifier(Input, frozen=True, kw_only=True):
    """A number somebody is known by, and in which system."""

    system: Annotated[Text, Meta(examples=["http://hl7.org/fhir/sid/us-ssn"])]
    value: Text


def _repetition_problem(identifiers: list[Identifier]) -> str | None:
    named = {(one.system, one.value) for one in identifiers}
    return "names an identifier twice" if len(named) < len(identifiers) else None


Identifiers = Annotated[list[Identifier], Meta(max_length=20, extra={"check": _repetition_problem})]


def _birth_problem(born: date) -> str | None:
    tomorrow = clock.now().date() + timedelta(days=1)  # it is tomorrow already in zones ahead of UTC
    in_range = EARLIEST_BIRTH <= born <= tomorrow
    return None if in_range else f"must lie between {EARLIEST_BIRTH} and today"


BirthDate = Annotated[date, Meta(extra={"check": _birth_problem})]


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Nested shapes as the plain values that services take."""
    if isinstance(values.get("address"), Address):
        values["address"] = msgspec.to_builtins(values["address"])
    if isinstance(values.get("identifiers"), list):
        values["identifiers"] = [(one.system, one.value) for one in values["identifiers"]]
    return values


class Register(Input, frozen=True, kw_only=True):
    """A person who opens their own account."""

    email: Email
    password: NewPassword
    given_name: Text
    family_name: Text
    birth_date: BirthDate


class RegisteredOut(Output, frozen=True, kw_only=True):
    """The new account and the patient it belongs to."""

    user_id: UUID
    patient_id: UUID


class SecondFactorOut(Output, frozen=True, kw_only=True):
    """Whether one has a second factor, and whether a role of one's own demands it."""

    enrolled: bool
    required: bool


class MeOut(Output, frozen=True, kw_only=True):
    """Who one is signed in as."""

    id: UUID
    email: str
    given_name: str
    family_name: str
    roles: list[str]
    permissions: list[str]
    organization_id: UUID
    patient_id: UUID | None
    clinician_id: UUID | None
    second_factor: SecondFactorOut


class RegisterPatient(Input, frozen=True, kw_only=True):
    """A new patient; `confirm_new` says that the likely duplicates are other people."""

    given_name: Text
    family_name: Text
    birth_date: BirthDate
    sex: Sex
    email: Email | None = None
    phone: Phone | None = None
    identifiers: Identifiers = field(default_factory=list)
    address: Address | None = None
    confirm_new: bool = False

    def arguments(self) -> dict[str, Any]:
        """The fields by name, as plain values."""
        return _plain(super().arguments())


class UpdatePatient(Input, frozen=True, kw_only=True):
    """Changed fields of a patient; null removes a value that may be absent."""

    given_name: Text | UnsetType = UNSET
    family_name: Text | UnsetType = UNSET
    birth_date: BirthDate | UnsetType = UNSET
    sex: Sex | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    phone: Phone | UnsetType | None = UNSET
    identifiers: Identifiers | UnsetType = UNSET
    address: Address | UnsetType | None = UNSET

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, as plain values."""
        return _plain(super().given())


class PatientQuery(PageQuery, frozen=True, kw_only=True):
    """Whom to look for: name (tolerant of spelling), record number, identifier, phone or birth date."""

    q: Search | None = None


class PatientOut(Output, frozen=True, kw_only=True):
    """A patient; of one whose record the caller does not see (`seen` is false) only what it takes to recognise them.

    `merged_into` is whom the patient turned out to be: work with that one.
    """

    id: UUID
    mrn: str
    given_name: str
    family_name: str
    birth_date: date
    sex: Sex
    email: str | None
    phone: str | None
    identifiers: list[Identifier]
    address: Address | None
    seen: bool
    merged_into: UUID | None
    version: Version

    @classmethod
    def of(cls, patient: Patient | Card) -> "PatientOut":
        """The patient as callers see them."""
        if isinstance(patient, Card):
            values = {name: getattr(patient, name) for name in Card.__struct_fields__}
            return cls(**values, email=None, phone=None, identifiers=[], address=None, seen=False, merged_into=None)
        return cls(
            id=patient.id,
            mrn=patient.mrn,
            given_name=patient.given_name,
            family_name=patient.family_name,
            birth_date=patient.birth_date,
            sex=Sex(patient.sex),
            email=patient.email,
            phone=patient.phone,
            identifiers=[Identifier(system=one.system, value=one.value) for one in patient.identifiers],
            address=Address(**patient.address) if patient.address else None,
            seen=True,
            merged_into=patient.merged_into,
            version=patient.version,
        )


class DuplicateOut(Output, frozen=True, kw_only=True):
    """Somebody who may be the same person: `score` is from 0 to 1, and `reasons` say what agrees."""

    patient: PatientOut
    score: float
    reasons: list[Reason]


class DuplicatesOut(Output, frozen=True, kw_only=True):
    """Who may be the same person, the likeliest first."""

    items: list[DuplicateOut]


class CreateClinician(Input, frozen=True, kw_only=True):
    """Makes a user a clinician."""

    user_id: UUID
    specialty: Text
    time_zone: TimeZone
    location_id: UUID | None = None


class ClinicianQuery(PageQuery, frozen=True, kw_only=True):
    """Which clinicians to list; `q` is a name, tolerant of spelling."""

    specialty: Search | None = None
    location_id: UUID | None = None
    q: Search | None = None


class ClinicianOut(Output, frozen=True, kw_only=True):
    """A clinician; the id is the user's."""

    id: UUID
    given_name: str
    family_name: str
    specialty: str
    time_zone: str
    location_id: UUID | None
    version: Version

    @classmethod
    def of(cls, clinician: Clinician) -> "ClinicianOut":
        """The clinician as callers see them."""
        return cls(
            id=clinician.id,
            given_name=clinician.user.given_name,
            family_name=clinician.user.family_name,
            specialty=clinician.specialty,
            time_zone=clinician.time_zone,
            location_id=clinician.location_id,
            version=clinician.version,
        )


class CreateLocation(Input, frozen=True, kw_only=True):
    """A new site."""

    name: Text
    time_zone: TimeZone


class LocationOut(Output, frozen=True, kw_only=True):
    """A site."""

    id: UUID
    name: str
    time_zone: str
    version: Version

    @classmethod
    def of(cls, location: Location) -> "LocationOut":
        """The site as callers see it."""
        return cls(id=location.id, name=location.name, time_zone=location.time_zone, version=location.version)
