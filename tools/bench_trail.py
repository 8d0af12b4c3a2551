"""Measure how far sealing is behind under load, and how fast it catches up: `python tools/bench_trail.py`.

Starts an embedded PostgreSQL with a new demo clinic in a temporary folder, the application in this process, and a
sealer beside it, as `medical run` does. The lag of an event is from when it occurred to when its seal was made.
"""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_security import Program, clinic, plan

from medical.audit import export
from medical.audit.sealer import Sealer, seal_once
from medical.audit.verifier import Verification
from medical.platform.waiting import conninfo

BOOKINGS, READS, THREADS, BACKLOG = 3_000, 6_000, 16, 50_000
LONGEST_LAG = 2.0
"""Seconds, promised for 99 of 100 events (AUD-06)."""

LAG = """
    SELECT count(*), percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
        ORDER BY extract(epoch FROM s.sealed_at - e.occurred_at))
    FROM audit_event e JOIN audit_link l ON l.event_id = e.id
    JOIN audit_seal s ON l.position BETWEEN s.first_position AND s.last_position
    WHERE e.occurred_at > %s
"""
MAKE_BACKLOG = """
    INSERT INTO audit_event (id, occurred_at, actor_roles, action, outcome, format, digest)
    SELECT gen_random_uuid(), clock_timestamp(), '{}', 'made.up', 'success', 1, sha256('x') FROM generate_series(1, %s)
"""
WAITING = "SELECT count(*) FROM audit_event WHERE id NOT IN (SELECT event_id FROM audit_link)"


def main() -> None:
    """Print the figures; exit with 1 when the promise is not kept."""
    with clinic() as (program, _postmaster):
        program.sign_in()
        url = str(program.app.config["SQLALCHEMY_DATABASE_URI"]).replace("medical_app@", "medical_owner@")
        key, over = Ed25519PrivateKey.generate(), threading.Event()
        sealer = threading.Thread(target=Sealer(url, lambda: key).run, args=(over,))
        sealer.start()
        kept = lag_under_load(program, url)
        over.set()
        sealer.join()
        catching_up(url, key)
    sys.exit(not kept)


def lag_under_load(program: Program, url: str) -> bool:
    """Bookings and reads by many threads, and how long their events waited; whether the promise is kept."""
    bookings = plan(program)
    _, page = program.call("GET", "/api/v1/appointments?limit=50")
    patient = page["items"][0]["patient_id"]
    work: list[tuple[str, str, Any]] = [
        ("POST", "/api/v1/appointments", next(bookings))
        if turn % 3 == 0
        else ("GET", f"/api/v1/patients/{patient}", None)
        for turn in range(BOOKINGS + READS)
    ]
    with as_verifier(url) as connection:
        [(began,)] = connection.execute("SELECT now()").fetchall()
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda call: program.call(*call), work))
        seconds = time.perf_counter() - started
        while connection.execute(WAITING).fetchone() != (0,):
            time.sleep(0.1)
        [(events, (median, p99, longest))] = connection.execute(LAG, [began]).fetchall()
    print(f"  {len(work) / seconds:.0f} requests a second, {events} events")
    print(
        f"  lag of the seal: median {median:.2f} s, p99 {p99:.2f} s, longest {longest:.2f} s (p99 <= {LONGEST_LAG} s)"
    )
    return bool(p99 <= LONGEST_LAG)


def catching_up(url: str, key: Ed25519PrivateKey) -> None:
    """After the sealer was away, and how fast a trail is verified."""
    with psycopg.connect(conninfo(url).replace("medical_owner@", "medical_app@"), autocommit=True) as writer:
        writer.execute(MAKE_BACKLOG, [BACKLOG])
    with psycopg.connect(conninfo(url), autocommit=True, options="-c role=medical_sealer") as connection:
        started, batches = time.perf_counter(), 0
        while seal_once(connection, key):
            batches += 1
        seconds = time.perf_counter() - started
        print(f"  {BACKLOG} events sealed in {seconds:.1f} s, {batches} batches")
        began = time.perf_counter()
        for _ in range(100):
            seal_once(connection, key)
        print(f"  {(time.perf_counter() - began) * 10:.2f} ms to see that nothing waits")
    started = time.perf_counter()
    with export.snapshot(url) as connection:
        verification = Verification([key.public_key().public_bytes_raw().hex()])
        made_up = sum(1 for _ in verification.problems(json.loads(line) for line in export.dump(connection)))
    seconds = time.perf_counter() - started
    links = verification.report.links
    print(f"  {links} events verified in {seconds:.1f} s ({links / seconds:.0f} a second), {made_up} found made up")


def as_verifier(url: str) -> psycopg.Connection[Any]:
    """A connection that sees the whole trail."""
    return psycopg.connect(conninfo(url), autocommit=True, options="-c role=medical_verifier")


if __name__ == "__main__":
    main()
