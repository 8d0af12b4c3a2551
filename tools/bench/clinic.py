"""The clinic that is measured: people and appointments made by PostgreSQL, hours through the API."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from tools.bench.load import Connection

ZONE = "Europe/Berlin"
OPENS, CLOSES, HALF_HOURS = "09:00", "17:00", 16
DAYS = 30
ONE_IN = 6
"""One half hour in six is taken in the coming thirty days."""


@dataclass(frozen=True)
class Size:
    """How large the clinic is; ``past`` appointments lie behind it."""

    clinicians: int
    patients: int
    past: int

    @property
    def drawn(self) -> int:
        """How many of the patients have those appointments; the others can be booked at any time."""
        return self.patients * 3 // 4


@dataclass(frozen=True)
class Ids:
    """What the calls name."""

    organization: str
    kind: str
    location: str
    clinicians: list[str]
    patients: list[str]
    observations: list[tuple[str, str]] = field(default_factory=list)
    """Some of their records, each with its patient."""
    resources: int = 0
    """How many records there are."""


STAFF = (
    """
    INSERT INTO users (id, organization_id, email, given_name, family_name, active, version)
    SELECT md5('clinician' || n)::uuid, %(organization)s, 'clinician' || n || '@bench.example', 'Given' || n,
           'Family' || n, true, 1
    FROM generate_series(1, %(clinicians)s) AS n
    """,
    """
    INSERT INTO role_grant (user_id, organization_id, role)
    SELECT md5('clinician' || n)::uuid, %(organization)s, 'clinician' FROM generate_series(1, %(clinicians)s) AS n
    """,
    """
    INSERT INTO clinician (id, organization_id, specialty, time_zone, location_id, version)
    SELECT md5('clinician' || n)::uuid, %(organization)s, 'General practice', %(zone)s, %(location)s, 1
    FROM generate_series(1, %(clinicians)s) AS n
    """,
)

PATIENTS = """
    INSERT INTO patient (id, organization_id, mrn, given_name, family_name, birth_date, sex, phone, version)
    SELECT md5('patient' || n)::uuid, %(organization)s, 'B' || lpad(n::text, 8, '0'),
           (ARRAY['Anna','Bernd','Chiara','Dmitri','Elif','Farid','Greta','Hugo','Ines','Jonas'])[1 + n %% 10] ||
           chr(97 + n / 10 %% 26),
           (ARRAY['Mueller','Schmidt','Okafor','Nguyen','Rossi','Kowalski','Garcia','Yilmaz'])[1 + n %% 8] ||
           chr(97 + n / 260 %% 26) || chr(97 + n / 8 %% 26),
           date '1940-01-01' + (n * 7919 %% 29000), CASE n %% 2 WHEN 0 THEN 'female' ELSE 'male' END,
           '+49 30 ' || (1000000 + n), 1
    FROM generate_series(1, %(patients)s) AS n;
"""

DRAWN = """
    CREATE TEMP TABLE drawn ON COMMIT DROP AS
    SELECT md5(concat(%(salt)s::text, n))::uuid AS id, md5('clinician' || 1 + clinician)::uuid AS clinician_id,
           md5('patient' || 1 + n %% %(patients)s)::uuid AS patient_id,
           begins AS local_start, begins AT TIME ZONE %(zone)s AS start_at
    FROM (
        SELECT row_number() OVER (ORDER BY step, clinician) AS n, clinician,
               %(first)s::date + step / %(half_hours)s + %(opens)s::time
               + make_interval(mins => 30 * (step %% %(half_hours)s)) AS begins
        FROM generate_series(0, %(steps)s - 1) AS step CROSS JOIN generate_series(0, %(clinicians)s - 1) AS clinician
        WHERE (step * 7 + clinician) %% %(one_in)s = 0
    ) AS grid
"""
"""One in so many half hours; at one time every patient is with one clinician at most."""

APPOINTMENTS = """
    INSERT INTO appointment (id, organization_id, patient_id, clinician_id, appointment_type_id, location_id, status,
                             start_at, end_at, time_zone, local_start, version, care_from)
    SELECT id, %(organization)s, patient_id, clinician_id, %(kind)s, %(location)s, %(status)s, start_at,
           start_at + interval '30 minutes', %(zone)s, local_start, 1, now()
    FROM drawn ORDER BY start_at, clinician_id
"""
EVENTS = """
    INSERT INTO appointment_event (appointment_id, version, organization_id, status, clinician_id, start_at, end_at,
                                   occurred_at)
    SELECT id, 1, %(organization)s, %(status)s, clinician_id, start_at, start_at + interval '30 minutes', now()
    FROM drawn
"""
CLAIMS = """
    INSERT INTO allocation (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id)
    SELECT md5(d.id::text || side.kind)::uuid, %(organization)s, side.bookable_id, side.kind, d.start_at,
           d.start_at + interval '30 minutes', d.id
    FROM drawn d CROSS JOIN LATERAL
        (VALUES ('clinician', d.clinician_id), ('patient', d.patient_id)) AS side (kind, bookable_id)
    ORDER BY side.bookable_id, d.start_at
"""


def people(owner: psycopg.Connection[Any], organization: str, location: str, size: Size) -> None:
    """Add clinicians and patients to the organisation."""
    values = {"organization": organization, "location": location, "zone": ZONE, "clinicians": size.clinicians}
    for statement in (*STAFF, PATIENTS):
        owner.execute(statement, values | {"patients": size.patients})


def appointments(owner: psycopg.Connection[Any], ids: Ids, size: Size) -> None:
    """Add those of the coming thirty days, and as many past ones as the size says; triggers and checks rest."""
    per_day = size.clinicians * HALF_HOURS
    past_days = -(-size.past // per_day)
    today = datetime.now(ZoneInfo(ZONE)).date()
    with owner.transaction():
        owner.execute("SET LOCAL session_replication_role = replica")
        for salt, first, days, one_in, status in (
            ("ahead", 1, DAYS, ONE_IN, "booked"),
            ("past", -past_days, past_days, 1, "fulfilled"),
        ):
            values = {
                "salt": salt,
                "first": today + timedelta(days=first),
                "steps": days * HALF_HOURS,
                "one_in": one_in,
                "status": status,
                "clinicians": size.clinicians,
                "patients": size.drawn,
                "half_hours": HALF_HOURS,
                "opens": OPENS,
                "zone": ZONE,
                "organization": ids.organization,
                "kind": ids.kind,
                "location": ids.location,
            }
            for statement in (DRAWN, APPOINTMENTS, EVENTS, CLAIMS, "DROP TABLE drawn"):
                owner.execute(statement, values)


def furnish(owner: psycopg.Connection[Any], desk: Connection, size: Size) -> Ids:
    """Make the clinic of this size; what the calls name."""
    location = desk.made("/api/v1/locations", {"name": "Measured site", "time_zone": ZONE})["id"]
    kind = desk.made(
        "/api/v1/appointment-types",
        {"name": "Measured visit", "duration_minutes": 30, "min_notice_minutes": 0, "horizon_days": 365},
    )["id"]
    _, me = desk.call("GET", "/api/v1/me")
    ids = Ids(
        organization=json.loads(me)["organization_id"],
        kind=kind,
        location=location,
        clinicians=known(owner, "clinician", size.clinicians),
        patients=known(owner, "patient", size.patients),
    )
    people(owner, ids.organization, location, size)
    for clinician in ids.clinicians:
        hours = {"clinician_id": clinician, "weekdays": list(range(1, 8)), "start_time": OPENS, "end_time": CLOSES}
        desk.made("/api/v1/availabilities", hours | {"location_id": location})
    appointments(owner, ids, size)
    owner.execute("VACUUM ANALYZE")
    return ids


def known(owner: psycopg.Connection[Any], word: str, count: int) -> list[str]:
    """The ids that PostgreSQL makes of ``word`` and a number."""
    rows = owner.execute("SELECT md5(%s || n)::uuid::text FROM generate_series(1, %s) AS n", [word, count])
    return [row[0] for row in rows]
