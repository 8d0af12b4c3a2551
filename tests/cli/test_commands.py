"""The commands beside ``run``: accounts, settings, the doctor, and Flask's own way to the migrations."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from medical.config import secret_problems
from medical.platform.postgres import EmbeddedPostgres
from medical.platform.waiting import conninfo
from tests.cli.program import PROJECT, SECRET, Program, environment, events, free_port, medical

ADMIN = ("--given-name", "Ada", "--family-name", "Lovelace", "--organization", "Clinic")
PASSWORD = "a long password for tests"


def create_admin(data: Path, email: str) -> subprocess.CompletedProcess[str]:
    options = ("--data", str(data), "--email", email, *ADMIN)
    return medical("create-admin", *options, MEDICAL_ADMIN_PASSWORD=PASSWORD)


def emails(server: EmbeddedPostgres) -> list[str]:
    """The addresses of all accounts, as only a superuser sees them."""
    url = conninfo(server.superuser_url).replace("/postgres?", "/medical?")
    with psycopg.connect(url) as connection:
        return [email for (email,) in connection.execute("SELECT email::text FROM users ORDER BY 1")]


class TestCreateAdmin:
    def test_it_needs_no_running_program(self, tmp_path: Path) -> None:
        result = create_admin(tmp_path / "data", "ada@clinic.example")
        assert result.returncode == 0, result.stdout
        assert events(result.stdout)[-1]["event"] == "admin_created"
        assert not (tmp_path / "data/postgres/postmaster.pid").exists()
        with EmbeddedPostgres(tmp_path / "data") as server:
            assert emails(server) == ["ada@clinic.example"]

    def test_it_works_beside_a_running_program_and_leaves_it_running(self, data: Path) -> None:
        with Program(data).ready() as program:
            assert create_admin(program.data, "ada@clinic.example").returncode == 0
            assert program.is_ready()

    def test_a_refusal_is_one_sentence(self, data: Path) -> None:
        assert create_admin(data, "ada@clinic.example").returncode == 0
        result = create_admin(data, "ada@clinic.example")
        assert result.returncode == 1
        assert events(result.stdout)[-1]["event"] == "command_failed"
        assert "Traceback" not in result.stdout + result.stderr
        assert PASSWORD not in result.stdout + result.stderr


class TestInitEnv:
    def test_the_file_is_private_and_its_key_is_fit(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        assert medical("init-env", "--output", str(file)).returncode == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        values = dict(line.split("=", 1) for line in lines)
        assert secret_problems(values["SECRET_KEY"]) == []
        assert values["POSTGRES_PASSWORD"] != values["MEDICAL_APP_PASSWORD"]

    def test_an_existing_file_is_left_as_it_is(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("SECRET_KEY=mine\n")
        result = medical("init-env", "--output", str(file))
        assert result.returncode == 1
        assert "exists and stays as it is" in events(result.stdout)[-1]["reason"]
        assert file.read_text() == "SECRET_KEY=mine\n"


class TestDoctor:
    def test_a_healthy_installation(self, data: Path) -> None:
        with Program(data).ready() as program:
            result = medical(*("doctor", "--data", str(program.data), "--port", str(program.port)), SECRET_KEY=SECRET)
        assert result.returncode == 0, result.stdout
        assert "FAIL" not in result.stdout
        for said in ("embedded PostgreSQL: runs", "schema: at revision", "is bound by row-level security", "is ready"):
            assert said in result.stdout
        assert SECRET not in result.stdout

    def test_a_broken_one_is_told_with_the_mend(self, tmp_path: Path) -> None:
        url = f"postgresql://someone:hidden@127.0.0.1:{free_port()}/clinic"
        result = medical("doctor", "--port", str(free_port()), DATABASE_URL=url, FLASK_APP="elsewhere:app")
        assert result.returncode == 1
        for said in ("FAIL  FLASK_APP", "FAIL  SECRET_KEY", "FAIL  database", "Connection refused", "mend:"):
            assert said in result.stdout
        assert "hidden" not in result.stdout

    def test_it_says_where_commands_belong(self, tmp_path: Path) -> None:
        result = medical("doctor", "--data", str(tmp_path / "data"), "--port", str(free_port()), SECRET_KEY=SECRET)
        assert "podman" in result.stdout
        assert "belong" in result.stdout


class TestMigrations:
    @pytest.mark.parametrize("program", ["flask", "medical"])
    def test_current_works_in_a_fresh_shell(self, data: Path, program: str) -> None:
        result = subprocess.run(
            [sys.executable, "-m", program, "db", "current"],
            cwd=PROJECT,
            env=environment(MEDICAL_DATA=str(data)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def test_up_down_and_up_again(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path / "data") as server:
            for arguments in (["upgrade"], ["check"], ["downgrade", "base"], ["upgrade"]):
                result = medical("db", *arguments, DATABASE_URL=server.app_url, MIGRATION_DATABASE_URL=server.owner_url)
                assert result.returncode == 0, result.stdout + result.stderr

    def test_a_new_revision_is_numbered_and_belongs_to_the_owner_of_the_folder(self, tmp_path: Path) -> None:
        clone = tmp_path / "clone"
        clone.mkdir()
        for name in ("medical", "migrations", "run.py", ".flaskenv"):
            subprocess.run(["cp", "-r", PROJECT / name, clone / name], check=True)
        versions = clone / "migrations/versions"
        last = max(int(file.name[:4]) for file in versions.glob("[0-9]*.py"))
        if os.geteuid() == 0:
            os.chown(versions, 12345, 12345)
        result = medical(
            *("db", "revision", "-m", "Rooms and wards"),
            cwd=clone,
            PYTHONPATH=str(clone),
            MEDICAL_DATA=str(tmp_path / "data"),
        )
        new = versions / f"{last + 1:04d}_rooms_and_wards.py"
        assert new.exists(), result.stdout + result.stderr
        assert new.stat().st_uid == versions.stat().st_uid
        assert (clone / "migrations/.current-head").read_text() == f"{new.stem}\n"

    def test_no_server_is_one_sentence(self) -> None:
        url = f"postgresql://someone:hidden@127.0.0.1:{free_port()}/clinic"
        result = medical("db", "current", DATABASE_URL=url, DATABASE_WAIT_SECONDS="1")
        assert result.returncode == 1
        assert "did not answer within 1 s" in result.stdout
        assert "Traceback" not in result.stdout + result.stderr
