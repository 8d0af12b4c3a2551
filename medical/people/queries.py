"""What is read about people; every SELECT of patients starts from `visible_patients`."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Float, Select, case, cast, exists, false, func, literal, or_, select, text, tuple_
from sqlalchemy.orm import joinedload, selectinload

from medical.identity.models import OtpCredential, RoleGrant, User
from medical.identity.permissions import Role
from medical.people.models import Clinician, Location, Patient, PatientIdentifier
from medical.platform.authz import Actor
from medical.platform.db import db

DESK = frozenset({Role.ADMIN, Role.RECEPTIONIST, Role.SERVICE})
"""Roles that see the demographics of every patient of their organisation."""
CARERS = frozenset({Role.CLINICIAN, Role.NURSE})
"""Roles that see the patients they care for, and of others a minimal card."""
STAFF = DESK | CARERS

NAME_LIKE, SAME_NAME = 0.45, 0.5
"""Trigram similarity from which a name is found, and from which two people may be one."""
MINIMUM_PHONE_DIGITS = 4


class PatientKey(Struct, frozen=True, array_like=True):
    """Where a page of patients ends: best match first, then by name."""

    rank: float
    family_name: str
    given_name: str
    id: UUID


def visible_patients(actor: Actor) -> Select[Patient]:
    """The patients this actor may see: the desk all, who cares for patients theirs, patients themselves."""
    query = select(Patient)
    if actor.roles & DESK:
        return query
    return query.where(Patient.id.in_(select(func.seen_patients(actor.user_id))))


class Card(Struct, frozen=True):
    """As much of a patient as it takes to recognise them."""

    id: UUID
    mrn: str
    given_name: str
    family_name: str
    birth_date: date
    sex: str
    version: int


class Known(Struct, frozen=True):
    """That a patient is of the organisation, whose account is theirs, and whether the caller speaks for them."""

    id: UUID
    user_id: UUID | None
    spoken_for: bool
    """By themselves, or by a proxy whose scope is appointments."""


KNOWN = text(
    "SELECT id, user_id, id IN (SELECT own_patients(caller_id()))"
    " OR id IN (SELECT proxied_patients(caller_id(), 'appointments')) FROM patient_cards(:patient_id)"
    " WHERE merged_into(id) IS NULL"
)
BY_GLASS_ALONE = text(
    "SELECT coalesce(bool_and(kind = 'grant'), false) FROM care(caller_id())"
    " WHERE patient_id = :patient_id AND starts_at <= now() AND now() < ends_at"
)
CARED = text("SELECT :patient_id IN (SELECT cared_patients(caller_id()))")


def known_patient(patient_id: UUID) -> Known | None:
    """A patient of the organisation, whether or not the caller sees their record."""
    row = db.session.execute(KNOWN, {"patient_id": patient_id}).first()
    return Known(*row) if row else None


def sees_by_glass_alone(patient_id: UUID) -> bool:
    """Whether nothing but a broken glass gives the caller sight of the patient, as staff."""
    return bool(db.session.scalar(BY_GLASS_ALONE, {"patient_id": patient_id}))


def cares_for(patient_id: UUID) -> bool:
    """Whether the caller cares for the patient now, as staff."""
    return bool(db.session.scalar(CARED, {"patient_id": patient_id}))


CARDS = text(
    """
    SELECT id, mrn, given_name, family_name, birth_date, sex, version, rank
    FROM search_patient_cards(:q, CAST(:likeness AS real))
    WHERE CAST(:after AS uuid) IS NULL
       OR (-rank, family_name COLLATE "C", given_name COLLATE "C", id)
        > (CAST(:rank AS double precision), :family, :given, CAST(:after AS uuid))
    ORDER BY -rank, family_name COLLATE "C", given_name COLLATE "C", id LIMIT :limit
    """
)


def search_cards(q: str, limit: int, after: PatientKey | None) -> Sequence[tuple[Card, float]]:
    """Cards of patients the caller does not see, by name, record number or birth date, in the order of patients."""
    values = {
        "q": q.strip(),
        "likeness": NAME_LIKE,
        "limit": limit + 1,
        "after": after.id if after else None,
        "rank": -after.rank if after else 0.0,
        "family": after.family_name if after else "",
        "given": after.given_name if after else "",
    }
    return [(Card(*row[:-1]), row.rank) for row in db.session.execute(CARDS, values)]


def search_patients(
    actor: Actor, q: str | None, limit: int, after: PatientKey | None
) -> Sequence[tuple[Patient, float]]:
    """Visible patients that fit ``q``, each with how well, one more than ``limit`` when more follow.

    Names of equal rank come in the order of their characters, as Python and `search_cards` have them.
    """
    rank = _rank(q) if q else literal(0.0)
    query = visible_patients(actor).options(selectinload(Patient.identifiers)).add_columns(rank.label("rank"))
    query = query.where(Patient.merged_into.is_(None))
    if q:
        query = query.where(or_(_likeness(q) >= NAME_LIKE, _contains(q), _is_theirs(q)))
    names = (Patient.family_name, Patient.given_name)
    order = (-rank, *(name.collate("C") if q else name for name in names), Patient.id)
    if after:
        query = query.where(tuple_(*order) > (-after.rank, after.family_name, after.given_name, after.id))
    rows = db.session.execute(query.order_by(*order).limit(limit + 1)).all()
    return [(patient, found) for patient, found in rows]


def _rank(q: str) -> Any:
    """How well a patient fits: 2 for a number or date of theirs, else the likeness of the name, to 3 digits."""
    likeness = func.round(cast(_likeness(q) * 1000, Float)) / 1000
    return cast(case((_is_theirs(q), 2.0), else_=likeness), Float)


def _likeness(q: str) -> Any:
    return func.word_similarity(func.search_key(q), Patient.search_name)


def _contains(q: str) -> Any:
    return func.strpos(Patient.search_name, func.search_key(q)) > 0


def _is_theirs(q: str) -> Any:
    """Whether ``q`` is the patient's record number, identifier, phone number or birth date."""
    digits = "".join(character for character in q if character.isdigit())
    phone = Patient.phone_digits.endswith(digits) if len(digits) >= MINIMUM_PHONE_DIGITS else false()
    try:
        born: Any = Patient.birth_date == date.fromisoformat(q.strip())
    except ValueError:
        born = false()
    identified = exists().where(PatientIdentifier.patient_id == Patient.id, PatientIdentifier.value == q.strip())
    return or_(Patient.mrn == q.strip().upper(), func.coalesce(phone, false()), born, identified)


def likely_same(
    *, given_name: str, family_name: str, birth_date: date, identifiers: Sequence[tuple[str, str]]
) -> Sequence[Patient]:
    """Patients who are probably this person: an identifier in common, or birth date and a like name."""
    name = func.search_key(f"{given_name} {family_name}")
    same_identifier = exists().where(
        PatientIdentifier.patient_id == Patient.id,
        tuple_(PatientIdentifier.system, PatientIdentifier.value).in_(identifiers),
    )
    born_and_named = (Patient.birth_date == birth_date) & (func.similarity(name, Patient.search_name) >= SAME_NAME)
    query = select(Patient).where(or_(same_identifier, born_and_named) if identifiers else born_and_named)
    query = query.where(Patient.merged_into.is_(None))
    return db.session.scalars(
        query.order_by(func.similarity(name, Patient.search_name).desc(), Patient.id).limit(5)
    ).all()


def clinicians() -> Select[Clinician]:
    """The organisation's active clinicians with their accounts, ordered by name."""
    return (
        select(Clinician)
        .join(User, User.id == Clinician.id)
        .where(User.active, exists().where(RoleGrant.user_id == User.id, RoleGrant.role == Role.CLINICIAN))
        .options(joinedload(Clinician.user))
        .order_by(User.family_name, User.given_name, Clinician.id)
    )


def list_clinicians(
    *,
    specialty: str | None,
    location_id: UUID | None,
    q: str | None,
    limit: int,
    after: tuple[str, str, UUID] | None,
    ids: Sequence[UUID] | None = None,
) -> Sequence[Clinician]:
    """Clinicians that fit all that is given, one more than ``limit`` when more follow."""
    query = clinicians()
    if ids is not None:
        query = query.where(Clinician.id.in_(ids))
    if specialty:
        query = query.where(func.lower(Clinician.specialty) == specialty.lower())
    if location_id:
        query = query.where(Clinician.location_id == location_id)
    if q:
        name = func.search_key(User.given_name + " " + User.family_name)
        like = func.word_similarity(func.search_key(q), name) >= NAME_LIKE
        query = query.where(or_(like, func.strpos(name, func.search_key(q)) > 0))
    if after:
        query = query.where(tuple_(User.family_name, User.given_name, Clinician.id) > after)
    return db.session.scalars(query.limit(limit + 1)).all()


def list_locations(limit: int, after: tuple[str, UUID] | None) -> Sequence[Location]:
    """Locations by name, one more than ``limit`` when more follow."""
    query = select(Location).order_by(Location.name, Location.id)
    if after:
        query = query.where(tuple_(Location.name, Location.id) > after)
    return db.session.scalars(query.limit(limit + 1)).all()


class OwnAccount(Struct, frozen=True):
    """What a user is besides an account."""

    given_name: str
    family_name: str
    patient_id: UUID | None
    clinician_id: UUID | None
    second_factor: bool


def own_account(user_id: UUID) -> OwnAccount:
    """The user's names, who they are as patient and as clinician, and whether they have a second factor."""
    enrolled = exists().where(OtpCredential.user_id == User.id, OtpCredential.confirmed_at.is_not(None))
    query = (
        select(User.given_name, User.family_name, Patient.id, Clinician.id, enrolled)
        .outerjoin(Patient, Patient.user_id == User.id)
        .outerjoin(Clinician, Clinician.id == User.id)
        .where(User.id == user_id)
    )
    return OwnAccount(*db.session.execute(query).one())
