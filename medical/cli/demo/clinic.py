"""Who works in the demo clinic, where and when, and who comes there."""

import json
from collections.abc import Sequence
from datetime import date, time, timedelta
from importlib.resources import files
from typing import Any, NamedTuple

from sqlalchemy import insert

from medical.identity.models import RoleGrant, User
from medical.identity.passwords import hash_password
from medical.identity.permissions import Role
from medical.people.models import Clinician, Location, Patient, PatientIdentifier
from medical.platform import clock
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.scheduling.models import AppointmentType, Availability

Row = dict[str, Any]


class Hours(NamedTuple):
    """Weekly hours; on Mondays for 1."""

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


def email_of(role: Role) -> str:
    """The address of the demo account with this role."""
    return f"{role}@demo.example"


def password_of(role: Role) -> str:
    """The password of that account, which everybody knows."""
    return f"demo {role} password"


def add_staff() -> list[Row]:
    """Add the accounts, the sites and the doctors; the doctors' rows."""
    users = [_account(role, *name) for role, name in ACCOUNTS.items()]
    users += [_colleague(doctor) for doctor in DOCTORS if doctor[:2] != ACCOUNTS[Role.CLINICIAN]]
    locations = {name: {"id": new_id(), "name": name, "time_zone": zone} for name, zone in ZONES.items()}
    ids = {(user["given_name"], user["family_name"]): user["id"] for user in users}
    clinicians = [
        {
            "id": ids[doctor[:2]],
            "specialty": doctor.specialty,
            "time_zone": ZONES[doctor.location],
            "location_id": locations[doctor.location]["id"],
        }
        for doctor in DOCTORS
    ]
    db.session.execute(insert(User), users)
    db.session.execute(insert(RoleGrant), [{"user_id": user["id"], "role": user["role"]} for user in users])
    db.session.execute(insert(Location), list(locations.values()))
    db.session.execute(insert(Clinician), clinicians)
    return clinicians
