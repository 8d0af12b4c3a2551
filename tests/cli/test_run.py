"""``medical run``: one command from nothing to serving, ends in good order, and explains why it cannot start."""

import signal
import socket
from pathlib import Path

import psycopg
import pytest

from medical.platform.postgres import EmbeddedPostgres
from medical.platform.waiting import conninfo
from tests.cli.program import SECRET, Program, events, free_port, medical, over, until


def reason(output: str) -> str:
    """Why a start was refused: the last line of its log."""
    last = events(output)[-1]
    assert last["event"] == "start_refused"
    return str(last["reason"])


class TestServing:
    def test_from_an_empty_folder_to_ready_and_to_a_clean_end(self, tmp_path: Path) -> None:
        with Program(tmp_path / "data") as program:
            program.ready()
            program.event("ready")
            assert program.stop() == 0
            names = [line["event"] for line in program.events()]
            assert names[0] == "starting"
            assert names[-2:] == ["postgres_stopped", "stopped"]
            assert "migration_finished" in names
            assert program.postgres() is None
            with Program(program.data) as again:
                again.ready()
                assert "migration_started" not in [line["event"] for line in again.events()]
                assert again.stop(signal.SIGINT) == 0

    def test_a_killed_program_does_not_block_the_next_start(self, data: Path) -> None:
        with Program(data).ready() as program:
            workers = program.workers()
            program.process.kill()
            program.process.wait()
            until(lambda: all(map(over, workers)), "workers gone", patience=1)
            with Program(program.data, port=program.port) as again:
                again.ready()
                assert again.event("postgres_found")
                assert again.stop() == 0
                assert again.postgres() is None

    def test_a_killed_database_comes_back_under_the_running_program(self, data: Path) -> None:
        with Program(data).ready() as program:
            server = program.postgres()
            assert server
            server.kill()
            program.event("postgres_revived")
            until(program.is_ready, "ready again", patience=5)
            assert program.get("/health/live")[0] == 200
            assert program.stop() == 0

    def test_a_killed_worker_is_replaced(self, data: Path) -> None:
        with Program(data, "--workers", "1").ready() as program:
            [worker] = program.workers()
            worker.kill()
            worker.wait()
            until(program.is_ready, "ready again")
            assert program.stop() == 0

    @pytest.mark.parametrize("event", ["starting", "postgres_initialising", "migration_started", "application_built"])
    def test_an_end_while_it_prepares_leaves_nothing_running(self, tmp_path: Path, event: str) -> None:
        with Program(tmp_path / "data") as program:
            program.event(event)
            assert program.stop(signal.SIGINT) == 0
            assert program.events()[-1]["event"] == "stopped"
            assert program.postgres() is None
            assert not program.process.is_running()

    def test_two_programs_share_one_database(self, data: Path) -> None:
        with Program(data).ready() as first, Program(data).ready() as second:
            assert first.stop() == 0
            assert second.is_ready()
            assert second.stop() == 0
            assert second.postgres() is None


class TestRefusals:
    """Each exits with 1, and its last line says what is wrong and how to mend it."""

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({}, "SECRET_KEY is not set: run `medical init-env`"),
            ({"SECRET_KEY": "short"}, "SECRET_KEY is shorter than 32 characters"),
            ({"SECRET_KEY": "change-me-" * 5}, "sample value"),
            ({"SECRET_KEY": SECRET, "FLASK_DEBUG": "1"}, "FLASK_DEBUG is on in production"),
            ({"SECRET_KEY": SECRET, "WEB_WORKERS": "many"}, "WEB_WORKERS is 'many'"),
            ({"SECRET_KEY": SECRET, "DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
            ({"SECRET_KEY": SECRET, "MIGRATION_DATABASE_URL": "postgresql://x/y"}, "without DATABASE_URL"),
        ],
    )
    def test_settings(self, tmp_path: Path, settings: dict[str, str], said: str) -> None:
        result = medical("run", "--data", str(tmp_path), "--port", str(free_port()), **settings)
        assert result.returncode == 1
        assert said in reason(result.stdout)
        assert "Traceback" not in result.stdout + result.stderr

    def test_a_taken_port(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            result = medical("run", "--data", str(tmp_path), "--port", str(port), SECRET_KEY=SECRET)
        assert result.returncode == 1
        assert f"127.0.0.1:{port} is not free" in reason(result.stdout)
        assert "--port" in reason(result.stdout)

    def test_a_port_that_another_medical_serves(self, data: Path, tmp_path: Path) -> None:
        with Program(data).ready() as program:
            result = medical("run", "--data", str(tmp_path / "b"), "--port", str(program.port), SECRET_KEY=SECRET)
            assert "is not free" in reason(result.stdout)

    def test_an_unusable_data_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        result = medical("run", "--data", str(tmp_path / "file"), "--port", str(free_port()), SECRET_KEY=SECRET)
        assert result.returncode == 1
        assert "cannot be used" in reason(result.stdout)

    def test_the_demo_beyond_this_machine(self, tmp_path: Path) -> None:
        result = medical("run", "--demo", "--host", "0.0.0.0", "--data", str(tmp_path))  # noqa: S104
        assert result.returncode == 1
        assert "does not listen at 0.0.0.0" in reason(result.stdout)
        assert not (tmp_path / "postgres").exists()

    def test_a_database_that_does_not_answer(self, tmp_path: Path) -> None:
        url = f"postgresql://someone:hidden@127.0.0.1:{free_port()}/clinic"
        result = medical(
            *("run", "--data", str(tmp_path), "--port", str(free_port())),
            SECRET_KEY=SECRET,
            DATABASE_URL=url,
            DATABASE_WAIT_SECONDS="1",
        )
        assert result.returncode == 1
        assert "did not answer within 1 s (Connection refused)" in reason(result.stdout)
        assert any(line["event"] == "database_waiting" for line in events(result.stdout))
        assert "hidden" not in result.stdout + result.stderr

    def test_a_database_of_a_newer_program(self, data: Path) -> None:
        with Program(data).ready() as program:
            program.stop()
        with EmbeddedPostgres(data) as server, psycopg.connect(conninfo(server.owner_url)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        result = medical("run", "--data", str(data), "--port", str(free_port()), SECRET_KEY=SECRET)
        assert result.returncode == 1
        assert "the database has revision 9999 and this program knows up to" in reason(result.stdout)

    def test_a_role_that_row_level_security_does_not_bind(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path / "data") as server:
            result = medical(*("run", "--port", str(free_port())), SECRET_KEY=SECRET, DATABASE_URL=server.superuser_url)
        assert result.returncode == 1
        assert "postgres, whom row-level security does not bind" in reason(result.stdout)
        assert "MIGRATION_DATABASE_URL" in reason(result.stdout)
