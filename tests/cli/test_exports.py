"""Exports beside the requests: the running program writes them as soon as they are asked for."""

import json
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from medical.cli.demo.clinic import email_of, password_of
from medical.identity.permissions import Role
from tests.cli.program import Program, until


def told(answer: tuple[int, str]) -> dict[str, str]:
    """The JSON of an answer that is no refusal."""
    status, body = answer
    assert status < 400, body
    made: dict[str, str] = json.loads(body)
    return made


def bearer(program: Program) -> str:
    """The header of a service client that the demo's administrator makes."""
    known = {"email": email_of(Role.ADMIN), "password": password_of(Role.ADMIN)}
    admin = f"Bearer {told(program.call('POST', '/api/v1/auth/login', known))['access_token']}"
    wanted = {"name": "Warehouse", "scopes": ["system/*.rs"]}
    client = told(program.call("POST", "/api/v1/service-clients", wanted, Authorization=admin))
    form = {"grant_type": "client_credentials"} | {name: client[name] for name in ("client_id", "client_secret")}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    with closing(HTTPConnection("127.0.0.1", program.port)) as connection:
        connection.request("POST", "/oauth/token", urlencode(form), kind)
        answer = connection.getresponse()
        return f"Bearer {told((answer.status, answer.read().decode()))['access_token']}"


def test_an_export_is_written_at_once(data: Path) -> None:
    """Within the time that it takes to start a process, not when diaries are kept up."""
    with Program(data, "--demo").ready() as program:
        token = bearer(program)
        with closing(HTTPConnection("127.0.0.1", program.port)) as connection:
            connection.request("GET", "/fhir/R4/Patient/$export", headers={"Authorization": token})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (202, b"")
        path = (answer.headers["Content-Location"] or "").partition(str(program.port))[2]

        def manifest() -> str | None:
            status, body = program.call("GET", path, Authorization=token)
            assert status in (200, 202), body
            return body if status == 200 else None

        output = json.loads(until(manifest, "the manifest"))["output"]
        assert next(one["count"] for one in output if one["type"] == "Patient") == 40
        assert program.event("exports_written")["exports"] == 1
        status, lines = program.call("GET", output[0]["url"].partition(str(program.port))[2], Authorization=token)
        assert (status, len(lines.splitlines())) == (200, output[0]["count"])
