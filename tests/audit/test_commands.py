"""``medical audit …`` and ``medical worker``, as an operator starts them."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql

from medical.audit.verifier import EVENT_FIELDS, digest_of_event
from tests.audit.conftest import Trail, live_a_little
from tests.cli.program import Program, environment, medical, until
from tests.clinic import Clinic

OLD = (datetime(2024, 3, 31, 12, tzinfo=UTC), datetime(2024, 4, 1, 12, tzinfo=UTC), datetime(2024, 5, 5, tzinfo=UTC))


@pytest.fixture
def sealed(trail: Trail) -> Trail:
    """A trail with something in it."""
    live_a_little(Clinic(trail.app), patients=2)
    trail.seal(limit=10)
    return trail


def audit(trail: Trail, *arguments: object, **settings: str) -> tuple[int, str]:
    """Exit code and output of a command on the trail's database."""
    done = medical("audit", *map(str, arguments), DATABASE_URL=trail.url, LOG_FORMAT="json", **settings)
    return done.returncode, done.stdout + done.stderr


def add_old_events(trail: Trail, instants: tuple[datetime, ...] = OLD) -> None:
    """Events of long ago, as if they had been written then."""
    for instant in instants:
        event: dict[str, Any] = dict.fromkeys(name for name, _ in EVENT_FIELDS)
        event |= {"id": str(uuid4()), "occurred_at": instant.isoformat(), "actor_roles": [], "action": "made.up"}
        event |= {"outcome": "success", "format": 1}
        event["digest"] = bytes.fromhex(digest_of_event(event))
        names = sql.SQL(", ").join(map(sql.Identifier, event))
        values = sql.SQL(", ").join(map(sql.Placeholder, event))
        with trail.connect() as connection:
            connection.execute(sql.SQL("INSERT INTO audit_event ({}) VALUES ({})").format(names, values), event)


class TestVerify:
    """``medical audit verify``."""

    def test_says_that_a_trail_is_whole(self, sealed: Trail, tmp_path: Path) -> None:
        """From the database, and from a dump of it; against what it was before."""
        assert audit(sealed, "checkpoint", "--out", tmp_path / "checkpoint.json")[0] == 0
        assert audit(sealed, "export", "--out", tmp_path / "dump.jsonl")[0] == 0
        known = ["--checkpoint", tmp_path / "checkpoint.json", "--public-key", sealed.public_key]
        for source in ([], ["--dump", tmp_path / "dump.jsonl"]):
            code, said = audit(sealed, "verify", *source, *known)
            assert code == 0, said
            assert re.search(r"^Whole: \d+ events in \d seals, head [0-9a-f]{64}\.$", said, re.MULTILINE)
        assert (tmp_path / "dump.jsonl").stat().st_mode & 0o777 == 0o600
        code, said = audit(sealed, "export", "--out", tmp_path / "dump.jsonl")
        assert (code, "stays as it is" in said) == (1, True)

    def test_names_the_keys_that_nobody_vouched_for(self, sealed: Trail) -> None:
        """A trail is as good as the knowledge of its key."""
        assert f"Signed by {sealed.public_key}: compare" in audit(sealed, "verify")[1]
        code, said = audit(sealed, "verify", "--public-key", "00" * 32)
        assert (code, "bad signature" in said) == (1, True)

    def test_says_what_is_not_whole_and_where(self, sealed: Trail) -> None:
        """With exit code 1."""
        with sealed.connect() as connection:
            [(event_id,)] = connection.execute("SELECT event_id FROM audit_link WHERE position = 5").fetchall()
            connection.execute("UPDATE audit_event SET outcome = 'better' WHERE id = %s", [event_id])
        code, said = audit(sealed, "verify")
        assert code == 1
        assert f"changed at position 5, event {event_id}" in said
        assert "NOT WHOLE, 1 problem:" in said

    def test_finds_a_cut_end_by_its_checkpoint(self, sealed: Trail, tmp_path: Path) -> None:
        """Which was carried outside before."""
        audit(sealed, "checkpoint", "--out", tmp_path / "c.json")
        with sealed.connect() as connection:
            [(first,)] = connection.execute("SELECT max(first_position) FROM audit_seal").fetchall()
            connection.execute(
                "DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_link WHERE position >= %s)", [first]
            )
            connection.execute("DELETE FROM audit_link WHERE position >= %s", [first])
            connection.execute("DELETE FROM audit_seal WHERE first_position >= %s", [first])
        assert audit(sealed, "verify")[0] == 0
        code, said = audit(sealed, "verify", "--checkpoint", tmp_path / "c.json")
        assert code == 1
        assert re.search(rf"^cut at positions? {first}\b.*its end was cut off$", said, re.MULTILINE)

    def test_refuses_what_is_no_checkpoint(self, sealed: Trail, tmp_path: Path) -> None:
        """In one sentence."""
        (tmp_path / "other.json").write_text("[]")
        code, said = audit(sealed, "verify", "--checkpoint", tmp_path / "other.json")
        assert (code, "is not a checkpoint" in said) == (1, True)


class TestKey:
    """``medical audit key``."""

    def test_is_made_and_shown(self, tmp_path: Path) -> None:
        """The public half only."""
        file = tmp_path / "key.pem"
        made = medical("audit", "key", "--make", str(file))
        shown = medical("audit", "key", AUDIT_SEAL_KEY=str(file))
        assert made.stdout == shown.stdout
        assert re.fullmatch(r"[0-9a-f]{64}\n", shown.stdout)
        assert medical("audit", "key", "--make", str(file)).returncode == 1
        assert "names no" not in medical("audit", "key", MEDICAL_DATA=str(tmp_path / "absent")).stdout


class TestArchive:
    """``medical audit archive``: old months go, their proof stays."""

    def test_moves_months_into_a_file_that_still_is_verified(self, sealed: Trail, tmp_path: Path) -> None:
        """The trail is whole with the file and without it; an archived event that was changed is found."""
        add_old_events(sealed)
        sealed.seal()
        file = tmp_path / "old.jsonl"
        code, said = audit(sealed, "archive", "--before", "2024-05", "--out", file)
        assert code == 0, said
        with sealed.connect() as connection:
            left = connection.execute(
                "SELECT count(*) FILTER (WHERE occurred_at < '2024-05-01'), count(*) FILTER (WHERE occurred_at <"
                " '2025-01-01') FROM audit_event"
            ).fetchone()
            months = connection.execute("SELECT month::text, events FROM audit_archive ORDER BY 1").fetchall()
        assert left == (0, 1)
        assert months == [("2024-03-01", 1), ("2024-04-01", 1)]
        code, said = audit(sealed, "verify")
        assert (code, "2 archived and not looked at" in said) == (0, True)
        code, said = audit(sealed, "verify", "--archive", file)
        assert (code, "archived" in said) == (0, False)
        file.write_text(file.read_text().replace("made.up", "made.down", 1))
        code, said = audit(sealed, "verify", "--archive", file)
        assert (code, "changed at position" in said) == (1, True)

    def test_goes_on_where_it_ended(self, sealed: Trail, tmp_path: Path) -> None:
        """What is archived is not archived again, and both files count."""
        add_old_events(sealed)
        sealed.seal()
        files = [tmp_path / "one", tmp_path / "two"]
        assert audit(sealed, "archive", "--before", "2024-04", "--out", files[0])[0] == 0
        assert audit(sealed, "archive", "--before", "2024-06", "--out", files[1])[0] == 0
        kinds = [[json.loads(line)["kind"] for line in file.read_text().splitlines()] for file in files]
        assert kinds == [["trail", "link", "end"], ["trail", "link", "link", "end"]]
        code, said = audit(sealed, "verify", "--archive", files[1], "--archive", files[0])
        assert (code, "archived" in said) == (0, False), said

    def test_is_refused_for_what_is_not_sealed_or_not_whole_or_not_over(self, sealed: Trail, tmp_path: Path) -> None:
        """And nothing is removed."""
        add_old_events(sealed)
        code, said = audit(sealed, "archive", "--before", "2024-05", "--out", tmp_path / "one")
        assert (code, "not sealed yet" in said) == (1, True), said
        sealed.seal()
        with sealed.connect() as connection:
            connection.execute("UPDATE audit_event SET code = 'x' WHERE occurred_at < '2024-04-01'")
        code, said = audit(sealed, "archive", "--before", "2024-05", "--out", tmp_path / "two")
        assert (code, "not whole" in said) == (1, True), said
        later = f"{datetime.now(UTC) + timedelta(days=32):%Y-%m}"
        code, said = audit(sealed, "archive", "--before", later, "--out", tmp_path / "three")
        assert (code, "is not over" in said) == (1, True), said
        with sealed.connect() as connection:
            old = "SELECT count(*) FROM audit_event WHERE occurred_at < '2025-01-01'"
            assert connection.execute(old).fetchone() == (3,)


class TestRunning:
    """The trail is sealed wherever the program runs."""

    def test_by_the_program_itself_and_again_after_a_crash_of_its_database(self, data: Path) -> None:
        """With a key of its own, which only its owner reads."""
        with Program(data).ready() as program:
            assert program.event("sealing")["public_key"]
            assert (program.data / "audit_seal_key.pem").stat().st_mode & 0o777 == 0o600
            server = program.postgres()
            assert server
            server.kill()
            program.event("postgres_revived")
            until(lambda: [line["event"] for line in program.events()].count("sealing") == 2, "sealing again")
            assert program.stop() == 0

    def test_by_a_worker_of_its_own(self, trail: Trail, tmp_path: Path) -> None:
        """Until it is told to stop."""
        live_a_little(Clinic(trail.app), patients=1)
        settings = environment(SEALER_DATABASE_URL=trail.url, MEDICAL_DATA=str(tmp_path))
        worker = subprocess.Popen([sys.executable, "-m", "medical", "worker"], env=settings, stdout=subprocess.PIPE)
        try:
            until(lambda: trail.waiting() == 0, "everything is sealed")
            worker.terminate()
            output, _ = worker.communicate(timeout=20)
        finally:
            worker.kill()
        assert worker.returncode == 0
        assert json.loads(output.decode().splitlines()[-1])["event"] == "stopped"
        assert trail.problems() != [], "another key signed"

    def test_a_worker_without_its_key_says_so(self, trail: Trail, tmp_path: Path) -> None:
        """And ends."""
        done = medical("worker", SEALER_DATABASE_URL=trail.url, AUDIT_SEAL_KEY=str(tmp_path / "absent"))
        assert done.returncode == 1
        assert "medical audit key --make" in done.stdout
