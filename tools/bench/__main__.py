"""Measure the program as it is served: `make bench`, or `python -m tools.bench --clinicians 1000 --past 280000`.

Makes a clinic of the size asked for in an embedded PostgreSQL of its own, serves it with `medical run` and two
workers, trail, sealer and sign-in as in production, and calls it over eight connections that stay open. For each
kind of call: requests a second, p50, p99, and the processor time of server and PostgreSQL per request as the kernel
counts it. Then the same for records of FHIR, of which `--resources` says how many there are: 2,000,000 take minutes.
Beside each, in the same run, the floors. Prints JSON, one line for each call; `--table` and `--plot` write them for
people.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psycopg
from flask import Flask

from medical.app import create_app
from medical.config import Mode
from medical.platform.db import db
from medical.platform.postgres import DATABASE, EmbeddedPostgres
from medical.platform.waiting import conninfo
from medical.records.service import catch_up
from tools.bench import calls, floors, records, report
from tools.bench.clinic import Ids, Size, furnish
from tools.bench.load import Connection, Processes, at_once, measure
from tools.measure_start import free_port

PROJECT = Path(__file__).resolve().parents[2]
BOOKINGS, RACES, RACERS = 2400, 10, 50


@contextmanager
def served(environment: dict[str, str], port: int, log: Path) -> Iterator[int]:
    """The program with two workers; its process id."""
    command = [str(Path(sys.executable).with_name("medical")), "run", "--demo", "--port", str(port), "--workers", "2"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
    try:
        while not ready(port):
            if process.poll() is not None:
                raise SystemExit(f"it did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def ready(port: int) -> bool:
    """Whether the program answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
            return True
    except (URLError, OSError):
        return False


def signed_in(port: int) -> Connection:
    """A connection of the administrator."""
    connection = Connection(port)
    body = {"email": "admin@demo.example", "password": "demo admin password"}
    connection.token = connection.made("/api/v1/auth/login", body)["access_token"]
    return connection


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Make the clinic, measure every call, and give the results."""
    size = Size(arguments.clinicians, arguments.patients, arguments.past)
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
            with served(environment, port, folder / "log") as pid:
                desk = signed_in(port)
                with psycopg.connect(conninfo(server.superuser_url), dbname=DATABASE, autocommit=True) as owner:
                    ids = furnish(owner, desk, size)
                results = [
                    one | {"clinicians": size.clinicians, "past": size.past}
                    for one in measured(arguments, ids, size, Processes(pid, postmaster), port)
                ]
            app = create_app({"database_url": server.app_url, "secret_key": secret, "mode": Mode.DEMO})
            logging.getLogger().setLevel(logging.WARNING)
            if selected(arguments, records.RECORDS):
                ids = with_records(app, server, ids, arguments.resources)
            with served(environment, port, folder / "log") as pid:
                tokens = {False: signed_in(port).token, True: records.program(port, signed_in(port))}
                for call in selected(arguments, records.RECORDS):
                    figures = measured_call(arguments, call, ids, Processes(pid, postmaster), port, tokens[True])
                    results.append(figures | {"resources": ids.resources})
            by_name = {call.name: call for call in selected(arguments, [*calls.CALLS, *records.RECORDS])}
            with app.app_context():
                for result in results:
                    if call := by_name.get(result["call"]):
                        result.update(floors_of(app, tokens[call.program], call, ids, server, postmaster, folder))
                db.engine.dispose()
    return results


def with_records(app: Flask, server: EmbeddedPostgres, ids: Ids, resources: int) -> Ids:
    """The same clinic with so many records."""
    with psycopg.connect(conninfo(server.superuser_url), dbname=DATABASE, autocommit=True) as owner:
        ids = records.multiply(owner, ids, resources)
    with app.app_context():
        catch_up()
        db.engine.dispose()
    return ids


def selected(arguments: argparse.Namespace, of: Sequence[calls.Call]) -> list[calls.Call]:
    """The calls whose name contains the word."""
    return [call for call in of if arguments.only in call.name]


def measured(
    arguments: argparse.Namespace, ids: Ids, size: Size, processes: Processes, port: int
) -> Iterator[dict[str, Any]]:
    """The figures of each call; bookings last, because they change the clinic."""
    for call in selected(arguments, calls.CALLS):
        yield measured_call(arguments, call, ids, processes, port, signed_in(port).token)
    if arguments.only in calls.BOOKING.name:
        desk = signed_in(port)
        asks = [iter(own) for own in calls.bookings(desk, ids, size, BOOKINGS)]
        times = measure(processes, port, desk.token, asks, 60, 0)
        race = dict(races(signed_in(port), ids, size, port))
        yield said({"call": calls.BOOKING.name} | times.figures() | {"race": race})


def measured_call(
    arguments: argparse.Namespace, call: calls.Call, ids: Ids, processes: Processes, port: int, token: str
) -> dict[str, Any]:
    """The figures of one call; ends the program where something was refused."""
    asks = [call.asks(ids, caller) for caller in range(calls.CALLERS)]
    figures = measure(processes, port, token, asks, arguments.seconds or call.seconds).figures()
    if any(int(status) >= 400 for status in figures["statuses"]):
        raise SystemExit(f"{call.name}: {figures['statuses']}")
    return said({"call": call.name} | figures)


def races(desk: Connection, ids: Ids, size: Size, port: int) -> Counter[str]:
    """How often so many callers for one time had exactly one winner, and what the others were told."""
    outcomes = Counter[str]()
    free = ids.patients[size.drawn :]
    left = calls.bookings(desk, ids, size, BOOKINGS)
    for number in range(RACES):
        _, _, body = left[number % calls.CALLERS][-1 - number // calls.CALLERS]
        statuses = at_once(
            RACERS,
            port,
            desk.token,
            lambda n, body=body: ("POST", "/api/v1/appointments", body | {"patient_id": free[-1 - n]}),
        )
        outcomes["one winner" if statuses[201] == 1 else f"{statuses[201]} winners"] += 1
        outcomes["told 409"] += statuses[409]
        outcomes["told 5xx"] += sum(number for status, number in statuses.items() if status >= 500)
    return outcomes


def floors_of(
    app: Any,
    token: str,
    call: calls.Call,
    ids: Ids,
    server: EmbeddedPostgres,
    postmaster: int,
    folder: Path,
) -> dict[str, Any]:
    """The same bytes from a bare server, and the same SQL alone."""
    ask = next(call.asks(ids, 0))
    method, path, body = ask
    answer = app.test_client().open(path, method=method, json=body, headers={"Authorization": f"Bearer {token}"})
    port = free_port()
    with floors.bare_server(folder, answer.data, port) as pid:
        while not accepts(port):
            time.sleep(0.05)
        same = [iter(lambda: ask, None) for _ in range(calls.CALLERS)]
        bare = measure(Processes(pid, postmaster), port, token, same, 2.0).figures()
    found = {"bare_cpu_ms": bare["server_cpu_ms"], "bytes": len(answer.data)}
    if call.alone:
        statements = [floors.statements_of(app, token, ask) for ask in islice(call.asks(ids, 0), 10)]
        found |= floors.sql_alone(conninfo(server.owner_url), postmaster, statements, 2.0)
    return found


def accepts(port: int) -> bool:
    """Whether somebody listens."""
    try:
        Connection(port).close()
    except OSError:
        return False
    return True


def said(result: dict[str, Any]) -> dict[str, Any]:
    """The result, after it was printed for whoever waits."""
    print(
        f"{result['call']}: {result['cpu_ms']} ms, {result['per_second']}/s, p99 {result['p99_ms']} ms", file=sys.stderr
    )
    return result


def main() -> None:
    """Measure, and write what was asked for."""
    parser = argparse.ArgumentParser(description="Measure the program as it is served.")
    parser.add_argument("--clinicians", type=int, default=50)
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--past", type=int, default=36_000, help="appointments that are over")
    parser.add_argument("--resources", type=int, default=100_000, help="records of the patients")
    parser.add_argument("--seconds", type=float, help="how long each call is measured")
    parser.add_argument("--only", default="", help="calls whose name contains this word")
    parser.add_argument("--folder", help="where the database lies meanwhile")
    parser.add_argument("--table", type=Path, help="write a Markdown table")
    parser.add_argument("--plot", type=Path, help="write an SVG")
    arguments = parser.parse_args()
    results = run(arguments)
    for result in results:
        print(json.dumps(result | {"python": platform.python_version()}))
    if arguments.table:
        arguments.table.write_text(report.table(results) + "\n")
    if arguments.plot:
        arguments.plot.write_text(report.plot(results))


if __name__ == "__main__":
    main()
