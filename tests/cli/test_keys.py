"""``medical keys``: beside a running program, which goes on without a restart."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from medical.platform.postgres import EmbeddedPostgres
from medical.platform.waiting import conninfo
from tests.cli.program import SECRET, Program, events, folder, medical
from tests.conftest import Prepare

LINE = re.compile(r"(\S+)  (next|active|retired) +(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")


def listed(data: Path) -> dict[str, str]:
    """What ``medical keys list`` says: status by id."""
    result = medical("keys", "list", "--data", str(data), SECRET_KEY=SECRET)
    assert result.returncode == 0, result.stdout
    lines = [line for line in result.stdout.splitlines() if not line.startswith("{")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), "an id, a status and a time, and nothing else"
    return {match[1]: match[2] for match in matches if match}


def published(program: Program) -> set[str]:
    """The ids that the program publishes."""
    status, body = program.get("/.well-known/jwks.json")
    assert status == 200
    return {key["kid"] for key in json.loads(body)["keys"]}


def grow_old(data: Path) -> None:
    """Let the keys have been made two minutes ago."""
    with EmbeddedPostgres(data) as server:
        url = conninfo(server.superuser_url).replace("/postgres?", "/medical?")
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE signing_key SET created_at = created_at - interval '2 minutes'")


@pytest.fixture(scope="module")
def program(prepared: Prepare) -> Iterator[Program]:
    """One that goes on without a restart."""
    with folder() as place, Program(prepared(place / "data")).ready() as running:
        yield running


def test_keys_are_rotated_and_replaced_beside_a_running_program(program: Program) -> None:
    """Which publishes the new ones without a restart."""
    before = listed(program.data)
    assert sorted(before.values()) == ["active", "next"]
    assert published(program) == set(before)
    grow_old(program.data)
    result = medical("keys", "rotate", "--data", str(program.data), SECRET_KEY=SECRET)
    assert (result.returncode, events(result.stdout)[-1]["event"]) == (0, "keys_rotated")
    after = listed(program.data)
    moved = {"active": "retired", "next": "active"}
    assert {kid: after[kid] for kid in before} == {kid: moved[status] for kid, status in before.items()}
    assert sorted(after.values()) == ["active", "next", "retired"]
    replaced = medical("keys", "rotate", "--now", "--data", str(program.data), SECRET_KEY=SECRET)
    assert (replaced.returncode, events(replaced.stdout)[-1]["event"]) == (0, "keys_replaced")
    new = listed(program.data)
    assert sorted(new.values()) == ["active", "next"]
    assert not set(new) & set(after)
    assert program.is_ready()


def test_another_secret_changes_nothing(program: Program) -> None:
    """And the refusal is one sentence."""
    data = program.data
    before = listed(data)
    grow_old(data)
    for arguments in (["rotate"], ["rotate", "--now"]):
        result = medical("keys", *arguments, "--data", str(data), SECRET_KEY="another-4Zk2vQx8Lr6Wt1Ns9Ub3-secret")
        assert (result.returncode, events(result.stdout)[-1]["event"]) == (1, "command_failed")
        assert "SECRET_KEY" in events(result.stdout)[-1]["reason"]
        assert "Traceback" not in result.stdout + result.stderr
    assert listed(data) == before


def test_without_a_secret_nothing_is_made(tmp_path: Path) -> None:
    result = medical("keys", "rotate", "--data", str(tmp_path / "data"))
    assert result.returncode == 1
    assert "SECRET_KEY" in events(result.stdout)[-1]["reason"]
    assert not (tmp_path / "data").exists()
