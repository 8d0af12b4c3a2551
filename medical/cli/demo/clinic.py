"""Who works in the demo clinic, where and when, and who comes there."""

import json
from collections.abc import Sequence
from datetime import date, time, timedelta
from importlib.resources import files
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import insert, select

from medical.identity.models import RoleGrant, User
from medical.identity.passwords import hash_password
from medical.identity.permissions import Role
from medical.people.models import CareRelationship, Clinician, Location, Patient, PatientIdentifier
from medical.platform import clock
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.scheduling import windows
from medical.scheduling.models import AppointmentType, Availability

Row = dict[str, Any]


class Hours(NamedTuple):
    """Weekly hours, in the wall time of the doctor's site; Monday is 1. No types: all of them."""

    weekdays: list[int]
    begin: str
    end: str
    every_weeks: int = 1
    types: list[str] | None = None


class Doctor(NamedTuple):
    """Somebody who treats patients."""

    given_name: str
    family_name: str
    specialty: str
    location: str
    hours: Sequence[Hours]


NAME = "Harbour Clinic"
BOSTON, HALIFAX = "Boston, Long Wharf", "Halifax, Lower Water Street"
ZONES = {BOSTON: "America/New_York", HALIFAX: "America/Halifax"}

TYPES = (
    {"name": "Consultation", "duration_minutes": 30, "grid_minutes": 30, "min_notice_minutes": 60, "horizon_days": 180},
    {"name": "Long visit", "duration_minutes": 60, "grid_minutes": 30, "min_notice_minutes": 1440, "horizon_days": 365},
)

DOCTORS = (
    Doctor(
        "Grace",
        "Okafor",
        "General practice",
        BOSTON,
        [Hours([1, 2, 4], "08:00", "12:00"), Hours([1, 2, 4], "13:00", "17:00"), Hours([5], "08:00", "12:00")],
    ),
    Doctor(
        "Daniel",
        "Lindqvist",
        "General practice",
        HALIFAX,
        [
            Hours([1, 3, 5], "09:00", "12:30"),
            Hours([1, 5], "13:30", "17:00"),
            Hours([3], "17:00", "20:30", types=["Consultation"]),
        ],
    ),
    Doctor(
        "Priya",
        "Raman",
        "Cardiology",
        BOSTON,
        [Hours([2, 3, 4], "08:30", "12:30"), Hours([2, 4], "13:30", "16:30")],
    ),
    Doctor(
        "Fiona",
        "MacLeod",
        "Cardiology",
        HALIFAX,
        [Hours([1, 2, 5], "09:00", "12:00"), Hours([1, 2], "13:00", "17:30")],
    ),
    Doctor(
        "Hannah",
        "Weiss",
        "Orthopaedics",
        BOSTON,
        [Hours([1, 3, 5], "07:30", "11:30"), Hours([3, 5], "12:30", "15:30")],
    ),
    Doctor(
        "Luc",
        "Boudreau",
        "Dermatology",
        HALIFAX,
        [
            Hours([2, 4], "10:00", "13:00"),
            Hours([2, 4], "14:00", "18:00"),
            Hours([6], "09:00", "13:00", every_weeks=2),
        ],
    ),
)

ACCOUNTS = {
    Role.ADMIN: ("Ines", "Amaral"),
    Role.CLINICIAN: ("Grace", "Okafor"),
    Role.NURSE: ("Tobias", "Keller"),
    Role.RECEPTIONIST: ("Moira", "Chisholm"),
    Role.PATIENT: ("Aurore", "Jacobs"),
    Role.AUDITOR: ("Kenji", "Watanabe"),
    Role.SERVICE: ("Laboratory", "Interface"),
}
"""Who can sign in: one account for each role. Clinician and patient are one of the doctors and of the patients."""


WARD = 20
"""How many patients the nurse cares for."""


def email_of(role: Role) -> str:
    """The address of the demo account with this role."""
    return f"{role}@demo.example"


def password_of(role: Role) -> str:
    """The password of that account, which everybody knows."""
    return f"demo {role} password"


def add_staff() -> list[Row]:
    """Add the accounts, the sites and the doctors; the doctors' rows."""
    users = [_user(*name, email_of(role), hash_password(password_of(role))) for role, name in ACCOUNTS.items()]
    roles = list(ACCOUNTS)
    for given_name, family_name, *_ in DOCTORS:
        if (given_name, family_name) != ACCOUNTS[Role.CLINICIAN]:
            users.append(_user(given_name, family_name, f"{given_name}.{family_name}@demo.example".lower(), None))
            roles.append(Role.CLINICIAN)
    grants = [{"user_id": user["id"], "role": role} for user, role in zip(users, roles, strict=True)]
    db.session.execute(insert(User), users)
    db.session.execute(insert(RoleGrant), grants)
    return _add_doctors({(user["given_name"], user["family_name"]): user["id"] for user in users})


def _user(given_name: str, family_name: str, email: str, password_hash: str | None) -> Row:
    return {
        "id": new_id(),
        "given_name": given_name,
        "family_name": family_name,
        "email": email,
        "password_hash": password_hash,
    }


def _add_doctors(user_ids: dict[tuple[str, str], UUID]) -> list[Row]:
    locations = {name: {"id": new_id(), "name": name, "time_zone": zone} for name, zone in ZONES.items()}
    doctors = [
        {
            "id": user_ids[doctor.given_name, doctor.family_name],
            "specialty": doctor.specialty,
            "time_zone": ZONES[doctor.location],
            "location_id": locations[doctor.location]["id"],
        }
        for doctor in DOCTORS
    ]
    db.session.execute(insert(Location), list(locations.values()))
    db.session.execute(insert(Clinician), doctors)
    return doctors


def add_types() -> list[Row]:
    """Add the kinds of visits; their rows."""
    types = [{"id": new_id(), **details} for details in TYPES]
    db.session.execute(insert(AppointmentType), types)
    return types


def add_hours(doctors: Sequence[Row], types: Sequence[Row], *, days_back: int) -> None:
    """Add the weekly hours of the doctors, who are in the order of ``DOCTORS``; open since so many days."""
    windows.hold()
    today = clock.now().date()
    monday = today - timedelta(days=today.weekday())
    type_ids = {kind["name"]: kind["id"] for kind in types}
    rows = [
        {
            "clinician_id": row["id"],
            "location_id": row["location_id"],
            "time_zone": row["time_zone"],
            "weekdays": hours.weekdays,
            "start_time": time.fromisoformat(hours.begin),
            "end_time": time.fromisoformat(hours.end),
            "every_weeks": hours.every_weeks,
            "first_week_on": monday,
            "appointment_type_ids": [type_ids[name] for name in hours.types] if hours.types else None,
        }
        for row, doctor in zip(doctors, DOCTORS, strict=True)
        for hours in doctor.hours
    ]
    db.session.execute(insert(Availability), rows)
    past = [today - timedelta(days=n) for n in range(1, days_back + 1)]
    windows.refresh([row["id"] for row in doctors], sorted({*past, *windows.kept()}))


def add_patients() -> list[tuple[UUID, bool]]:
    """Add the patients; of each the id, and whether they live."""
    people = [{"id": new_id(), **person} for person in known_patients()]
    account = select(User.id).where(User.email == email_of(Role.PATIENT))
    owner, user_id = ACCOUNTS[Role.PATIENT], db.session.scalars(account).one()
    rows = [
        {
            "id": person["id"],
            "given_name": person["given_name"],
            "family_name": person["family_name"],
            "birth_date": date.fromisoformat(person["birth_date"]),
            "sex": person["sex"],
            "email": person.get("email"),
            "phone": person.get("phone"),
            "address": person["address"],
            "user_id": user_id if (person["given_name"], person["family_name"]) == owner else None,
        }
        for person in people
    ]
    identifiers = [one | {"patient_id": person["id"]} for person in people for one in person["identifiers"]]
    db.session.execute(insert(Patient), rows)
    db.session.execute(insert(PatientIdentifier), identifiers)
    return [(person["id"], "deceased" not in person) for person in people]


def add_ward(patient_ids: Sequence[UUID]) -> None:
    """Give the nurse the care of some patients; clinicians have theirs by their visits."""
    nurse_id = db.session.scalars(select(User.id).where(User.email == email_of(Role.NURSE))).one()
    rows = [
        {
            "id": new_id(),
            "patient_id": patient_id,
            "user_id": nurse_id,
            "origin": "assignment",
            "reason": "ward round",
            "starts_at": clock.now(),
        }
        for patient_id in patient_ids[:WARD]
    ]
    db.session.execute(insert(CareRelationship), rows)


def known_patients() -> list[Row]:
    """The patients of the file; `DEMO_DATA.md` says where they come from."""
    file = files("medical.cli").joinpath("demo_patients.json")
    patients: list[Row] = json.loads(file.read_text(encoding="utf-8"))
    return patients
