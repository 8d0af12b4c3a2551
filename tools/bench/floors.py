"""What could not be quicker: the bare server answering the same bytes, and the same SQL alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import event

from medical.platform.db import APP_ROLE, SESSION_SETTINGS, SET_SCOPE, db, scope_organization, scope_user
from medical.platform.driver import LastingConnection
from medical.platform.ids import new_id
from tools.bench.load import Ask, used

ANSWER = "BENCH_ANSWER"
Statement = tuple[str, Any]


def bare(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application that answers with the bytes of a file, whatever is asked."""
    environ["wsgi.input"].read()
    body = _answer()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


@cache
def _answer() -> bytes:
    return Path(os.environ[ANSWER]).read_bytes()


@contextmanager
def bare_server(folder: Path, answer: bytes, port: int) -> Iterator[int]:
    """Granian with two workers and nothing behind it; its process id."""
    file = folder / "answer"
    file.write_bytes(answer)
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--workers", "2", "--port", str(port)]
    command += ["--log-level", "error", "--no-ws", "--blocking-threads", "8", "tools.bench.floors:bare"]
    process = subprocess.Popen(command, env=os.environ | {ANSWER: str(file)})
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def statements_of(app: Flask, token: str, ask: Ask) -> list[Statement]:
    """The SQL that a request sends, with its values."""
    seen: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        seen.append((statement, parameters))

    def note_scope(*_: Any) -> None:
        scope = {"organization_id": scope_organization(), "user_id": scope_user(), "request_id": "floor"}
        seen.append((SET_SCOPE, {f"app.{name}": str(value) for name, value in scope.items()}))

    method, path, body = ask
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", note)
        event.listen(db.session, "after_begin", note_scope)
        try:
            client = app.test_client()
            headers = {"Authorization": f"Bearer {token}"}
            for _ in range(2):  # the first fills what is read once
                seen.clear()
                answer = client.open(path, method=method, json=body, headers=headers)
                if answer.status_code >= 400:
                    raise SystemExit(f"{method} {path} answered {answer.status_code}: {answer.text}")
        finally:
            event.remove(db.engine, "before_cursor_execute", note)
            event.remove(db.session, "after_begin", note_scope)
    return seen


def afresh(values: Any) -> Any:
    """The values with new keys for the rows of the trail, which were added once."""
    if "ids" in values:
        return values | {"ids": [new_id() for _ in values["ids"]]}
    return values | {"digest": os.urandom(32)} if "salt" in values else values


def sql_alone(url: str, postmaster: int, requests: list[list[Statement]], seconds: float) -> dict[str, float]:
    """Milliseconds of processor time per request of psycopg and PostgreSQL for these statements, rolled back."""
    options = " ".join(f"-c {name}={value}" for name, value in (SESSION_SETTINGS | {"role": APP_ROLE}).items())
    with LastingConnection.connect(url, options=options, prepare_threshold=2) as connection:
        count, before, began = 0, (0.0, 0.0), time.perf_counter()
        for statements in cycle(requests):
            for statement, values in statements:
                found = connection.execute(statement, afresh(values))
                if found.description:
                    found.fetchall()
            connection.rollback()
            now = time.perf_counter()
            if not any(before) and now - began > 0.5:
                before, began = (time.process_time(), used(postmaster)), now
                count = 0
                continue
            count += 1
            if any(before) and now - began > seconds:
                break
    return {
        "sql_client_cpu_ms": round((time.process_time() - before[0]) * 1000 / count, 3),
        "sql_postgres_cpu_ms": round((used(postmaster) - before[1]) * 1000 / count, 3),
        "sql_ms": round((time.perf_counter() - began) * 1000 / count, 3),
        "sql_statements": len(requests[0]),
    }
