"""Measure records as they are served: `python -m tools.bench_records --patients 2000 --copies 10`.

Takes the demo clinic with its records in an embedded PostgreSQL of its own, multiplies its patients with all that is
known of them, serves it with `medical run` and two workers, trail and sign-in as in production, and calls it over eight
connections that stay open. For each kind of call: requests a second, p50, p99, the processor time of server and
PostgreSQL per request, and of a read the floors. Prints a Markdown table.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from medical.app import create_app
from medical.config import Mode
from medical.platform.db import db
from medical.platform.postgres import DATABASE, EmbeddedPostgres
from medical.platform.waiting import conninfo
from medical.records import service as records
from tools.bench.__main__ import served, signed_in
from tools.bench.load import Ask, Processes, measure
from tools.measure_start import free_port

CALLERS = 8
AIMS = {"read": 1.0, "create an Observation": 2.0, "transaction of 100": 60.0, "observations of a patient": 2.0}
MEDPLUM = {"read": 0.9, "create an Observation": 5.9, "transaction of 100": 513.0, "patients by name": 2.4}
"""Medplum 5.1.12 without a trail, on this kind of machine; its reads come from a cache."""
PEOPLE = """
    INSERT INTO patient (id, organization_id, mrn, version, given_name, family_name, birth_date, sex)
    SELECT gen_random_uuid(), organization_id, 'P' || lpad(nextval('patient_mrn_seq')::text, 7, '0'), 1, given_name,
           family_name || ' ' || n, birth_date, sex
    FROM patient, generate_series(1, %(rounds)s) AS n WHERE family_name !~ ' [0-9]+$'
"""
COPIES = """
    CREATE TEMPORARY TABLE copies AS
    SELECT r.id AS old, gen_random_uuid() AS new, p.id AS patient_id, r.patient_id AS old_patient
    FROM resource r JOIN patient o ON o.id = r.patient_id
    JOIN patient p ON p.given_name = o.given_name AND p.family_name ~ ('^' || o.family_name || ' [0-9]+$')
    CROSS JOIN generate_series(1, %(copies)s)
    WHERE r.type <> 'Patient' AND NOT r.deleted
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
    SELECT v.organization_id, c.new, v.type, v.parameter, v.system,
           CASE WHEN v.parameter = '_id' THEN c.new::text ELSE v.code END, v.text, v.low, v.high, v.since, v.until,
           v.target_type, CASE WHEN v.target_id = c.old_patient::text THEN c.patient_id::text ELSE v.target_id END,
           c.patient_id
    FROM copies c JOIN resource_value v ON v.resource_id = c.old
"""

DRAWN = """
    SELECT fhir_id, patient_id::text FROM resource WHERE type = 'Observation' AND patient_id IS NOT NULL
    ORDER BY md5(id::text) LIMIT 2000
"""


def multiply(owner: psycopg.Connection[Any], patients: int, copies: int) -> int:
    """Many more patients, each with so many copies of what the demo knows of one; how many resources there are."""
    owner.execute(PEOPLE, {"rounds": max(1, patients // 40)})
    owner.execute(COPIES, {"copies": copies})
    owner.execute("ANALYZE copies")
    owner.execute(RESOURCES)
    owner.execute(VALUES)
    for table in ("patient", "resource", "resource_value"):
        owner.execute(f"ANALYZE {table}")
    found = owner.execute("SELECT count(*) FROM resource").fetchone()
    return int(found[0]) if found else 0


def pulse(patient: str) -> dict[str, Any]:
    """An ordinary Observation."""
    coding = {"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}
    unit = {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [category]}],
        "code": {"coding": [coding]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-27T09:30:00Z",
        "valueQuantity": unit,
    }


def transaction(patient: str) -> dict[str, Any]:
    """A hundred of them."""
    entry = [{"resource": pulse(patient), "request": {"method": "POST", "url": "Observation"}} for _ in range(100)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entry}


def calls(known: list[str], patients: list[str]) -> dict[str, list[Iterator[Ask]]]:
    """What each caller asks for, by the name of the call."""
    base = "/fhir/R4"

    def each(make: Any) -> list[Iterator[Ask]]:
        return [map(make, count(caller, CALLERS)) for caller in range(CALLERS)]

    def search(number: int) -> Ask:
        patient = patients[number % len(patients)]
        query = f"patient={patient}&code=http://loinc.org|8302-2&date=ge2000&_count=20&_sort=-date"
        return "GET", f"{base}/Observation?{query}", None

    def named(number: int) -> Ask:
        return "GET", f"{base}/Patient?name={('an', 'car', 'ste', 'mac', 'ra')[number % 5]}&_count=20", None

    return {
        "read": each(lambda n: ("GET", f"{base}/Observation/{known[n % len(known)]}", None)),
        "create an Observation": each(lambda n: ("POST", f"{base}/Observation", pulse(patients[n % len(patients)]))),
        "transaction of 100": each(lambda n: ("POST", base, transaction(patients[n % len(patients)]))),
        "observations of a patient": each(search),
        "patients by name": each(named),
    }


def program(port: int) -> str:
    """The access token of a service client."""
    scopes = ["record:read", "record:edit", "patient:read", "patient:create"]
    client = signed_in(port).made("/api/v1/service-clients", {"name": "bench", "scopes": scopes})
    shown = {name: client[name] for name in ("client_id", "client_secret")}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/oauth/token", urlencode({"grant_type": "client_credentials"} | shown), kind)
    return str(json.load(connection.getresponse())["access_token"])


def run(arguments: argparse.Namespace) -> None:
    """Make the records, measure every call, and print the table."""
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "data") as server:
            secret, port = os.urandom(32).hex(), free_port()
            environment = {
                "DATABASE_URL": server.app_url,
                "MIGRATION_DATABASE_URL": server.owner_url,
                "SECRET_KEY": secret,
                "MEDICAL_DATA": str(folder / "data"),
            }
            postmaster = int((folder / "data/postgres/postmaster.pid").read_text().splitlines()[0])
            with served(environment, port, folder / "log"):
                pass
            with psycopg.connect(conninfo(server.superuser_url), dbname=DATABASE, autocommit=True) as owner:
                total = multiply(owner, arguments.patients, arguments.copies)
                app = create_app({"database_url": server.app_url, "secret_key": secret, "mode": Mode.DEMO})
                with app.app_context():
                    records.catch_up()
                    db.engine.dispose()
                owner.execute("VACUUM ANALYZE resource, resource_value")
                rows = owner.execute(DRAWN).fetchall()
            with served(environment, port, folder / "log") as pid:
                measured(Processes(pid, postmaster), port, rows, total, arguments.seconds)


def measured(processes: Processes, port: int, rows: list[Any], total: int, seconds: float) -> None:
    """Print a line for each call."""
    token = program(port)
    print(f"{total} resources\n")
    print("| call | per second | p50 ms | p99 ms | server ms | PostgreSQL ms | together | aim | Medplum |")
    print("|" + " --- |" * 9)
    for name, asks in calls([one[0] for one in rows], [one[1] for one in rows]).items():
        found = measure(processes, port, token, asks, seconds).figures()
        if any(int(status) >= 400 for status in found["statuses"]):
            raise SystemExit(f"{name}: {found['statuses']}")
        cells = [name, *(found[key] for key in ("per_second", "p50_ms", "p99_ms", "server_cpu_ms", "postgres_cpu_ms"))]
        print("| " + " | ".join(map(str, [*cells, found["cpu_ms"], AIMS.get(name, ""), MEDPLUM.get(name, "")])) + " |")
        sys.stdout.flush()


def main() -> None:
    """Measure as asked."""
    parser = argparse.ArgumentParser(description="Measure records as they are served.")
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--copies", type=int, default=1, help="of the demo's records, for each patient")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each call")
    parser.add_argument("--folder", help="where the database is to be")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
