"""Starts the program with its demo clinic, and lets clients that others wrote work with it.

``python tests/clients/run.py PYTHON``: PYTHON has what ``requirements.txt`` lists; Node has ``package.json``'s.
"""

import json
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from medical.cli.demo.clinic import email_of, password_of
from medical.identity.permissions import Role
from tests.cli.program import Program, folder

HERE = Path(__file__).parent
SCOPES = ["record:read", "record:edit", "record:delete", "patient:create", "patient:read", "patient:update"]
SCOPES += ["slot:read", "clinician:read", "appointment:read", "appointment:book", "appointment:cancel"]


def main(python: str) -> int:
    """How many clients did not get through."""
    with folder() as place, Program(place / "data", "--demo").ready() as own:
        environment = os.environ | {"FHIR_BASE": f"http://127.0.0.1:{own.port}/fhir/R4", "FHIR_TOKEN": token(own)}
        commands = [[python, str(path)] for path in sorted(HERE.glob("with_*.py"))]
        commands += [["node", str(path)] for path in sorted(HERE.glob("with_*.js"))]
        return sum(subprocess.run(one, env=environment, check=False).returncode != 0 for one in commands)


def token(own: Program) -> str:
    """An access token of a service client that the demo's administrator makes."""
    known = {"email": email_of(Role.ADMIN), "password": password_of(Role.ADMIN)}
    bearer = f"Bearer {told(own.call('POST', '/api/v1/auth/login', known))['access_token']}"
    wanted = {"name": "suite", "scopes": SCOPES}
    client = told(own.call("POST", "/api/v1/service-clients", wanted, Authorization=bearer))
    shown = {"client_id": client["client_id"], "client_secret": client["client_secret"]}
    connection = HTTPConnection("127.0.0.1", own.port)
    form = urlencode({"grant_type": "client_credentials"} | shown)
    connection.request("POST", "/oauth/token", form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    return told((answer.status, answer.read().decode()))["access_token"]


def told(answer: tuple[int, str]) -> dict[str, str]:
    """The JSON of an answer that is no refusal."""
    status, body = answer
    if status >= 400:
        raise SystemExit(f"{status}: {body}")
    made: dict[str, str] = json.loads(body)
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
