"""Who may be one and the same person: with a score, and what speaks for it."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct
from sqlalchemy import and_, exists, false, func, or_, tuple_
from sqlalchemy.orm import selectinload

from medical.audit import service as audit
from medical.people import queries
from medical.people.models import Patient, PatientIdentifier
from medical.people.service import get_visible_patient
from medical.platform.authz import Actor
from medical.platform.db import db

Reason = Literal["identifier", "name", "birth_date", "sex", "phone", "email"]
"""What can agree."""
WEIGHTS: dict[Reason, float] = {"name": 0.45, "birth_date": 0.3, "sex": 0.05, "phone": 0.1, "email": 0.1}
"""How much each agreement speaks for one person, of 1; of the name, as much of it as the names are alike."""
BY_IDENTIFIER = 0.99
"""The least score of who has an identifier in common: systems give each person their own."""
CERTAIN, PROBABLE = 0.95, 0.75
"""Scores from which two are certainly, and probably, one."""
LIKE, ALIKE = 0.5, 0.75
"""Trigram similarity of names from which two may be one: born on one day, or reached by one number."""


class Person(Struct, frozen=True):
    """What is known of somebody."""

    given_name: str
    family_name: str
    birth_date: date | None
    sex: str | None
    phone: str | None
    email: str | None
    identifiers: Sequence[tuple[str, str]]


class Candidate(Struct, frozen=True):
    """Somebody who may be the person: score from 0 to 1, and what agrees."""

    patient: Patient
    score: float
    reasons: list[Reason]

    @property
    def grade(self) -> str:
        """The score in a word of FHIR's match-grade."""
        return "certain" if self.score >= CERTAIN else "probable" if self.score >= PROBABLE else "possible"


def duplicates_of(actor: Actor, patient_id: UUID, limit: int) -> list[Candidate]:
    """Other patients whom the actor sees who may be this one, the likeliest first. Raises ``NotFound``."""
    patient = get_visible_patient(actor, patient_id, identifiers=True)
    names = ("given_name", "family_name", "birth_date", "sex", "phone", "email")
    identifiers = [(one.system, one.value) for one in patient.identifiers]
    person = Person(**{name: getattr(patient, name) for name in names}, identifiers=identifiers)
    return [one for one in candidates(actor, person, limit + 1) if one.patient.id != patient_id][:limit]


def candidates(actor: Actor, person: Person, limit: int) -> list[Candidate]:
    """Patients whom the actor sees who may be this person, the likeliest first; one statement finds them."""
    agreeing = _agreeing(person)
    name, born, phone, email = agreeing["name"], agreeing["birth_date"], agreeing["phone"], agreeing["email"]
    likely = or_(agreeing["identifier"], and_(born, name >= LIKE), and_(or_(phone, email), name >= ALIKE))
    query = (
        queries.visible_patients(actor)
        .where(likely, Patient.merged_into.is_(None))
        .options(selectinload(Patient.identifiers))
    )
    columns = [column.label(f"same_{reason}") for reason, column in agreeing.items()]
    rows = db.session.execute(query.add_columns(*columns).order_by(name.desc(), Patient.id).limit(50)).all()
    found = sorted((_weighed(row[0], dict(zip(agreeing, row[1:], strict=True))) for row in rows), key=_order)[:limit]
    for one in found:
        audit.touch("patient", one.patient.id, patient_id=one.patient.id)
    return found


def _order(candidate: Candidate) -> tuple[float, UUID]:
    return -candidate.score, candidate.patient.id


def _agreeing(person: Person) -> dict[Reason, Any]:
    """What agrees with the person, by reason; of the name, how much."""
    identified = exists().where(
        PatientIdentifier.patient_id == Patient.id,
        tuple_(PatientIdentifier.system, PatientIdentifier.value).in_([*person.identifiers]),
    )
    digits = "".join(one for one in person.phone or "" if one.isdigit())
    enough = len(digits) >= queries.MINIMUM_PHONE_DIGITS
    return {
        "identifier": identified if person.identifiers else false(),
        "name": func.similarity(func.search_key(f"{person.given_name} {person.family_name}"), Patient.search_name),
        "birth_date": Patient.birth_date == person.birth_date if person.birth_date else false(),
        "sex": Patient.sex == person.sex if person.sex not in (None, "unknown") else false(),
        "phone": func.coalesce(Patient.phone_digits.endswith(digits), false()) if enough else false(),
        "email": func.coalesce(func.lower(Patient.email) == person.email.lower(), false()) if person.email else false(),
    }


def _weighed(patient: Patient, agreeing: dict[Reason, Any]) -> Candidate:
    likeness = float(agreeing["name"])
    score = sum(WEIGHTS[one] for one in WEIGHTS if one != "name" and agreeing[one]) + WEIGHTS["name"] * likeness
    if agreeing["identifier"]:
        score = max(score, BY_IDENTIFIER)
    reasons = [one for one, value in agreeing.items() if (value >= LIKE if one == "name" else value)]
    return Candidate(patient, round(min(score, 1.0), 3), reasons)
