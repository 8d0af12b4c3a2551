"""The records that are measured: what the demo knows of its patients, given to those of the clinic over and over."""

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any
from urllib.parse import urlencode

import psycopg

from tools.bench.calls import CALLERS, Call
from tools.bench.clinic import Ids
from tools.bench.load import Ask, Connection

BASE = "/fhir/R4"
SCOPES = ["record:read", "record:edit", "patient:read", "patient:create"]
COPIES = """
    CREATE TEMPORARY TABLE copies AS
    WITH given AS (SELECT id, patient_id FROM resource WHERE patient_id IS NOT NULL AND type <> 'Patient'),
         people AS (SELECT patient_id, row_number() OVER (ORDER BY patient_id) - 1 AS n
                    FROM (SELECT DISTINCT patient_id FROM given) AS owners)
    SELECT r.id AS old, r.patient_id AS old_patient, gen_random_uuid() AS new, p.id AS patient_id
    FROM unnest(%(patients)s::uuid[]) WITH ORDINALITY AS p (id, n)
    JOIN people o ON o.n = p.n %% (SELECT count(*) FROM people)
    JOIN given r ON r.patient_id = o.patient_id
    CROSS JOIN generate_series(1, greatest(1, round(%(resources)s::numeric * (SELECT count(*) FROM people)
                                              / (SELECT count(*) FROM given) / cardinality(%(patients)s::uuid[]))::int))
"""
RESOURCES = """
    INSERT INTO resource (id, organization_id, type, fhir_id, version, updated_at, patient_id, open, sensitive, deleted,
                          document)
    SELECT c.new, r.organization_id, r.type, c.new::text, 1, r.updated_at, c.patient_id, false, r.sensitive, false,
           jsonb_set(replace(r.document::text, c.old_patient::text, c.patient_id::text)::jsonb, '{id}',
                     to_jsonb(c.new::text))
    FROM copies c JOIN resource r ON r.id = c.old
"""
VALUES = """
    INSERT INTO resource_value (organization_id, resource_id, type, parameter, system, code, text, low, high, since,
                                until, target_type, target_id, subject_id)
    SELECT v.organization_id, c.new, v.type, v.parameter, v.system, v.code, v.text, v.low, v.high, v.since, v.until,
           v.target_type, CASE WHEN v.target_id = c.old_patient::text THEN c.patient_id::text ELSE v.target_id END,
           CASE WHEN v.subject_id IS NOT NULL THEN c.patient_id END
    FROM copies c JOIN given v ON v.resource_id = c.old
"""
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename IN ('resource', 'resource_value') AND indexname LIKE 'ix%'
"""
DRAWN = """
    SELECT fhir_id, patient_id::text FROM resource WHERE type = 'Observation' AND patient_id = ANY(%(patients)s::uuid[])
    ORDER BY md5(id::text) LIMIT 2000
"""


def multiply(owner: psycopg.Connection[Any], ids: Ids, resources: int) -> Ids:
    """Make about so many resources; the ids with some Observations, and whose they are.

    Each patient has at least what one of the demo's has. Indexes are made when all is there, and nothing is checked
    that was right where it was copied from.
    """
    owner.execute("SET session_replication_role = replica")
    owner.execute("SET maintenance_work_mem = '1GB'")
    owner.execute(COPIES, {"patients": ids.patients, "resources": resources})
    owner.execute("ANALYZE copies")
    indexes = owner.execute(INDEXES).fetchall()
    owner.execute("CREATE TEMPORARY TABLE given AS SELECT * FROM resource_value")
    for name, _ in indexes:
        owner.execute(f"DROP INDEX {name}")
    owner.execute(RESOURCES)
    owner.execute(VALUES)
    for _, definition in indexes:
        owner.execute(definition)
    owner.execute("DROP TABLE copies, given")
    owner.execute("VACUUM ANALYZE resource, resource_value")
    observations = owner.execute(DRAWN, {"patients": ids.patients}).fetchall()
    [(count,)] = owner.execute("SELECT count(*) FROM resource").fetchall()
    return replace(ids, observations=observations, resources=count)


def program(port: int, desk: Connection) -> str:
    """The access token of a service client that the desk's administrator makes."""
    client = desk.made("/api/v1/service-clients", {"name": "bench", "scopes": SCOPES})
    shown = {name: client[name] for name in ("client_id", "client_secret")}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/oauth/token", urlencode({"grant_type": "client_credentials"} | shown), kind)
    return str(json.load(connection.getresponse())["access_token"])


def drawn(ids: Ids, caller: int) -> Iterator[tuple[int, str, str]]:
    """Number, Observation and patient, each caller with others, for ever."""
    for number in count(caller, CALLERS):
        yield number, *ids.observations[number % len(ids.observations)]


def pulse(patient: str) -> dict[str, Any]:
    """An ordinary Observation."""
    coding = {"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [category]}],
        "code": {"coding": [coding]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-27T09:30:00Z",
        "valueQuantity": {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


def read(ids: Ids, caller: int) -> Iterator[Ask]:
    """One Observation after the other."""
    return (("GET", f"{BASE}/Observation/{one}", None) for _, one, _ in drawn(ids, caller))


def create(ids: Ids, caller: int) -> Iterator[Ask]:
    """A pulse of one patient after the other."""
    return (("POST", f"{BASE}/Observation", pulse(patient)) for _, _, patient in drawn(ids, caller))


def transact(ids: Ids, caller: int) -> Iterator[Ask]:
    """A hundred pulses of a patient, all or none."""
    request = {"method": "POST", "url": "Observation"}
    for _, _, patient in drawn(ids, caller):
        entry = [{"resource": pulse(patient), "request": request}] * 100
        yield "POST", BASE, {"resourceType": "Bundle", "type": "transaction", "entry": entry}


def of_patient(ids: Ids, caller: int) -> Iterator[Ask]:
    """Heights of a patient since a day, the latest first."""
    query = "code=http://loinc.org|8302-2&date=ge2000&_count=20&_sort=-date"
    return (("GET", f"{BASE}/Observation?patient={patient}&{query}", None) for _, _, patient in drawn(ids, caller))


def by_name(ids: Ids, caller: int) -> Iterator[Ask]:
    """Patients whose name begins so."""
    names = ("an", "car", "ste", "mac", "ra")
    return (("GET", f"{BASE}/Patient?name={names[n % len(names)]}&_count=20", None) for n, _, _ in drawn(ids, caller))


RECORDS = [
    Call("read an Observation", read, aim=1.0, medplum=0.9, program=True),
    Call("a patient's Observations by code and date, page of 20", of_patient, aim=2.0, program=True),
    Call("Patients by name, page of 20", by_name, medplum=2.4, program=True),
    Call("create an Observation", create, aim=2.0, medplum=5.9, program=True, alone=False),
    Call("transaction of 100 Observations", transact, aim=60.0, medplum=513, program=True, alone=False),
]
