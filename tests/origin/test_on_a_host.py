"""The origin's failures that show where the program itself runs; one test for each, named after it."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import inspect, select
from sqlalchemy.orm import configure_mappers, selectinload

from medical.app import create_app
from medical.config import ConfigurationError, Mode
from medical.identity import keys
from medical.identity.models import User
from medical.platform import schema
from medical.platform.db import Base, Scope, db, scoped
from medical.platform.http import declared_routes
from medical.platform.openapi import document
from medical.platform.postgres import EmbeddedPostgres
from medical.scheduling.models import Availability
from tests.cli.program import PROJECT, SECRET, Program, environment, events, free_port, medical
from tests.clinic import Caller, Clinic

SAMPLES = [
    "",
    "   ",
    "short",
    "change-me-change-me-change-me-change-me",
    "your-secret-key-goes-here-your-secret-key",
    12345,
]


def flask(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """What Flask's own command says, called as in a fresh shell: with no variable set."""
    command = [str(Path(sys.executable).parent / "flask"), *arguments]
    given = {name: value for name, value in environment(**settings).items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=given, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's folder as a newcomer has it: the same files, no data yet."""
    place = tmp_path / "checkout"
    place.mkdir()
    for name in ("run.py", ".flaskenv", "medical", "migrations"):
        (place / name).symlink_to(PROJECT / name)
    return place


class TestFailure01InstanceNamedLikeItsPackage:
    """`AttributeError: module 'app' has no attribute 'route'`."""

    @pytest.mark.parametrize("order", ["import run, medical.app", "import medical.app, run"])
    def test_importing_run_and_the_package_in_either_order_gives_the_application(self, order: str) -> None:
        code = f"{order}; flask_app = run.create_app(); print(type(flask_app).__name__)"
        settings = {"SECRET_KEY": SECRET, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env=environment(**settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "Flask", done.stderr

    def test_no_name_of_a_module_shadows_a_package_and_the_instance_is_flask_app(self) -> None:
        packages = {file.parent.name for file in (PROJECT / "medical").rglob("__init__.py")} | {"app", "medical"}
        for file in [PROJECT / "run.py", *(PROJECT / "medical").glob("*.py")]:
            assigned = _assigned_at_top(file)
            assert not assigned & packages, file
        assert "app = Flask(" not in (PROJECT / "medical/app.py").read_text().replace("flask_app = Flask(", "")


def _assigned_at_top(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


class TestFailure02UnhandledExceptionAtStart:
    """The container was gone, and why stood in no line."""

    @pytest.mark.parametrize(
        ("settings", "reason"),
        [
            ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
            ({"DATABASE_URL": "nonsense"}, "DATABASE_URL is 'nonsense'"),
            ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "DATABASE_WAIT_SECONDS": "1"}, "127.0.0.1"),
            ({"FLASK_DEBUG": "1"}, "FLASK_DEBUG is on in production"),
            ({"LOG_FORMAT": "pretty"}, "LOG_FORMAT is 'pretty'"),
        ],
    )
    def test_each_broken_setting_ends_the_start_with_its_reason_as_the_last_line(
        self, tmp_path: Path, settings: dict[str, str], reason: str
    ) -> None:
        port = str(free_port())
        done = medical("run", "--data", str(tmp_path / "d"), "--port", port, **({"SECRET_KEY": SECRET} | settings))
        assert done.returncode == 1
        last = done.stdout.splitlines()[-1]
        assert reason in (json.loads(last)["reason"] if last.startswith("{") else last)
        assert "Traceback" not in done.stdout + done.stderr


class TestFailure03TablesMadeBeforeTheDatabaseWasReady:
    """No tables, no error, an inconsistent schema."""

    def test_a_program_started_before_its_database_waits_migrates_and_serves(self, tmp_path: Path) -> None:
        server = EmbeddedPostgres(tmp_path / "server", durable=False)
        with server:
            urls = {"DATABASE_URL": server.app_url, "MIGRATION_DATABASE_URL": server.owner_url}
        with Program(tmp_path / "program", **urls) as program:
            program.event("database_waiting")
            with server:
                program.ready()
                assert program.event("migration_finished")["wanted"] == schema.wanted_revision()
                assert program.stop() == 0


class TestFailure04CommandLineDidNotFindTheFactory:
    """`Error: No such command 'db'`."""

    def test_flask_db_current_works_in_a_fresh_shell(self, checkout: Path) -> None:
        upgraded = flask("db", "upgrade", cwd=checkout)
        assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
        current = flask("db", "current", cwd=checkout)
        assert current.returncode == 0, current.stdout + current.stderr
        assert schema.wanted_revision() in current.stdout


class TestFailure05NoSecretKey:
    """Login succeeded, then making the token failed: `Expected a string value`."""

    @pytest.mark.parametrize("secret", SAMPLES)
    def test_a_missing_short_sample_or_non_text_key_refuses_to_start(self, secret: Any) -> None:
        with pytest.raises(ConfigurationError, match="SECRET_KEY"):
            create_app({"secret_key": secret, "database_url": "postgresql://nobody@127.0.0.1:1/none"})

    def test_another_key_than_the_databases_own_refuses_instead_of_half_a_login(self, app: Flask) -> None:
        with app.app_context(), pytest.raises(keys.KeyRingLocked):
            keys.KeyRing("another key than the one of these tests").ensure()
        with app.app_context():
            db.session.rollback()


class TestFailure06MissingReverseRelation:
    """`Mapper 'User(users)' has no property 'availabilities'`."""

    def test_every_relation_has_its_reverse(self) -> None:
        configure_mappers()
        relations = [relation for mapper in Base.registry.mappers for relation in mapper.relationships]
        assert {relation.key for relation in inspect(User).relationships} >= {"availabilities", "clinician", "patient"}
        for relation in relations:
            assert relation.back_populates, relation
            reverse = relation.mapper.relationships[relation.back_populates]
            assert reverse.back_populates == relation.key

    def test_user_and_availabilities_find_each_other_in_the_data(self, app: Flask, clinic: Clinic) -> None:
        clinician = clinic.clinician()
        hours = clinic.hours(clinician)
        with app.app_context(), scoped(Scope(clinic.organization_id)):
            user = db.session.scalars(
                select(User).where(User.id == clinician.user_id).options(selectinload(User.availabilities))
            ).one()
            assert [str(one.id) for one in user.availabilities] == [hours["id"]]
            availability = db.session.scalars(select(Availability).options(selectinload(Availability.clinician))).one()
            assert availability.clinician is user


class TestFailure07MigrationsNotInstalled:
    """No migration commands."""

    def test_flask_db_help_lists_them(self, checkout: Path) -> None:
        shown = flask("db", "--help", cwd=checkout)
        assert shown.returncode == 0
        assert all(command in shown.stdout for command in ("upgrade", "downgrade", "current", "revision", "migrate"))

    def test_flask_migrate_is_a_locked_dependency(self) -> None:
        assert "\nflask-migrate==" in (PROJECT / "requirements.lock").read_text()


class TestFailure08FlaskNotRecognized:
    """`'flask' is not recognized as an internal or external command`."""

    def test_the_module_works_wherever_python_does_and_both_ways_are_documented(self) -> None:
        assert "create-admin" in medical("--help").stdout
        documented = (PROJECT / "README.md").read_text() + (PROJECT / "docs/containers.md").read_text()
        assert "-m medical" in documented
        assert "podman exec -it medical-api flask" in documented


class TestFailure09MigrationsOnlyInsideTheContainer:
    """The folder was not on the host, its history at risk."""

    def test_a_new_revision_belongs_to_the_owner_of_the_folder(self, checkout: Path, tmp_path: Path) -> None:
        (checkout / "migrations").unlink()
        subprocess.run(["cp", "-R", str(PROJECT / "migrations"), str(checkout / "migrations")], check=True)
        versions = checkout / "migrations/versions"
        before = set(versions.glob("*.py"))
        if os.geteuid() == 0:
            os.chown(versions, 12345, 12345)
        made = flask("db", "revision", "-d", "migrations", "-m", "add a thing", cwd=checkout)
        assert made.returncode == 0, made.stdout + made.stderr
        (new,) = set(versions.glob("*.py")) - before
        assert new.name == f"{int(schema.wanted_revision()) + 1:04d}_add_a_thing.py"
        assert (new.stat().st_uid, new.stat().st_gid) == (versions.stat().st_uid, versions.stat().st_gid)


class TestFailure10DatabaseGoneAfterARestart:
    """All users and records were lost."""

    def test_what_was_written_is_there_after_a_stop_and_a_start(self, data: Path) -> None:
        who = ["--email", "ada@example.org", "--given-name", "Ada", "--family-name", "A", "--organization", "Clinic"]
        with Program(data).ready() as program:
            password = {"MEDICAL_ADMIN_PASSWORD": "a password of the first start"}
            made = medical("create-admin", "--data", str(data), *who, **password)
            assert made.returncode == 0, made.stdout
            assert program.stop() == 0
        with Program(data).ready():
            again = medical("create-admin", "--data", str(data), *who, **password)
            assert "Another account has this email" in again.stdout


class TestFailure11HostCommandsInsideTheContainer:
    """`podman: not found`."""

    def test_the_doctor_says_where_it_runs_and_where_a_command_belongs(self, tmp_path: Path) -> None:
        said = medical("doctor", "--data", str(tmp_path), SECRET_KEY=SECRET).stdout
        here = "This is a container." in said or "This is the host." in said
        assert here, said
        belongs = "podman and compose commands belong on the host" if "a container." in said else "podman exec -it"
        assert belongs in said


class TestFailure12SchemaExpectedOnTheFirstRequest:
    """Puzzling missing tables."""

    @pytest.fixture
    def unmigrated(self, make_database: Any) -> Iterator[Flask]:
        """The application on an empty database."""
        flask_app = create_app({"database_url": make_database(), "secret_key": SECRET, "mode": Mode.TEST})
        yield flask_app
        with flask_app.app_context():
            db.engine.dispose()

    def test_ready_names_both_revisions_and_requests_get_a_clear_503(self, unmigrated: Flask, app: Flask) -> None:
        guest = Caller(unmigrated)
        ready = guest.get("/health/ready")
        assert (ready.status_code, ready.get_json()["code"]) == (503, "schema_behind")
        assert (ready.get_json()["found"], ready.get_json()["wanted"]) == (None, schema.wanted_revision())
        login = guest.post("/auth/login", {"email": "a@example.org", "password": "a long enough password"})
        assert (login.status_code, login.get_json()["code"]) == (503, "schema_behind")
        assert login.headers["Retry-After"]
        assert guest.get("/health/live").status_code == 200


class TestFailure14DocumentationApartFromTheCode:
    """Swagger was put right by hand after each change."""

    def test_the_document_equals_the_routes_both_ways(self, app: Flask) -> None:
        with app.app_context():
            written = {(path, method) for path, item in document(app)["paths"].items() for method in item}
            routes = [(rule.rule, method.lower()) for rule, method, _ in declared_routes(app)]
        assert len(written) == len(routes)
        plain = {(path.split("{")[0], method) for path, method in written}
        assert plain == {(rule.split("<")[0], method) for rule, method in routes}


class TestFailure15VariablesTypedEachTime:
    """There was no `.flaskenv`."""

    def test_it_is_checked_in_and_holds_no_secret(self) -> None:
        lines = (PROJECT / ".flaskenv").read_text().splitlines()
        assert [line for line in lines if line and not line.startswith("#")] == ["FLASK_APP=run:create_app"]
        tracked = subprocess.run(
            ["git", "ls-files", ".flaskenv", ".env"], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert tracked.stdout.split() in ([".flaskenv"], [])  # an unpacked archive has no git


class TestFailure16NoStructuredLogs:
    """Errors were hard to find."""

    def test_every_line_from_start_to_end_is_json_and_names_its_request(self, tmp_path: Path) -> None:
        with Program(tmp_path / "data").ready() as program:
            program.event("ready")
            assert program.get("/api/v1/me")[0] == 401
            assert program.get("/no/such/path")[0] == 404
            assert program.stop() == 0
            lines = events(program.output.read_text())
        names = [line["event"] for line in lines]
        assert names[0] == "starting"
        assert {"postgres_started", "migration_started", "migration_finished", "ready", "draining"} <= set(names)
        assert names[-1] == "stopped"
        requests = [line for line in lines if line["event"] == "request"]
        assert {401, 404} <= {line["status"] for line in requests}
        assert all(line["request_id"] for line in requests)
        assert len({line["request_id"] for line in requests}) == len(requests)
