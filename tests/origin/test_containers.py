"""The origin's failures that lived in its containers, as the files stand; `tests/containers/try.sh` runs them.

Numbers are those of the origin's sixteen failures.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from medical.cli.environment import TEMPLATE
from medical.config import Mode, Settings

PROGRAM = ("medical-migrate", "medical-api", "medical-worker")
SECRETS = re.compile(r"SECRET|PASSWORD|URL")
REFERENCE = re.compile(r"\$\{(\w+)(:?[-?])?([^}]*)\}")
DELETES_VOLUMES = re.compile(r"\bdown\b.*\s`?(-v|--volumes)\b")

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def compose(project: Path) -> dict[str, Any]:
    """What `podman-compose` reads."""
    content: dict[str, Any] = yaml.safe_load((project / "compose.yaml").read_text())
    return content


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> Services:
    """The containers."""
    found: Services = compose["services"]
    return found


@pytest.fixture(scope="module")
def development(project: Path) -> Services:
    """What the development override changes in them."""
    found: Services = yaml.safe_load((project / "compose.dev.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def containerfile(project: Path) -> str:
    """How the image is made."""
    return (project / "Containerfile").read_text()


@pytest.fixture(scope="module")
def final_stage(containerfile: str) -> str:
    """How the part that is shipped is made."""
    return containerfile.rpartition("\nFROM ")[2]


class TestStart:
    """2, 3, 12: containers come up in any order, and again."""

    def test_02_what_serves_is_started_again(self, services: Services) -> None:
        """`always` also survives a reboot of the host under Podman; the migration runs once."""
        assert {name: service["restart"] for name, service in services.items()} == {
            "medical-db": "always",
            "medical-migrate": "no",
            "medical-api": "always",
            "medical-worker": "always",
        }

    def test_03_no_container_waits_for_another(self, services: Services, development: Services) -> None:
        """Health checks do not run without systemd, so an order that rests on them may never come about."""
        assert not any("depends_on" in service for service in (*services.values(), *development.values()))

    def test_12_a_container_migrates_as_the_owner(self, services: Services) -> None:
        """And the one that serves does not have the owner's password."""
        migrate, api, _ = (services[name] for name in PROGRAM)
        assert migrate["command"] == ["medical", "db", "upgrade"]
        assert "//medical_owner:" in migrate["environment"]["MIGRATION_DATABASE_URL"]
        assert "//medical_app:" in api["environment"]["DATABASE_URL"]
        assert "POSTGRES_PASSWORD" not in str(api["environment"])

    def test_12_the_role_that_serves_is_bound_by_row_level_security(self, project: Path) -> None:
        """The script of the first start makes it so."""
        script = " ".join((project / "deploy/initdb/10-medical-app.sql").read_text().split())
        assert "CREATE ROLE medical_app LOGIN NOSUPERUSER" in script
        assert "NOBYPASSRLS PASSWORD :'password';" in script


class TestWorker:
    """AUD-05: what seals the trail is apart from what writes it."""

    def test_alone_has_the_key_and_a_role_of_its_own(self, services: Services, project: Path) -> None:
        """Neither the owner's password nor the application's."""
        worker = services["medical-worker"]
        assert worker["command"] == ["medical", "worker"]
        assert "//medical_sealer:" in worker["environment"]["SEALER_DATABASE_URL"]
        assert not re.search("POSTGRES_PASSWORD|APP_PASSWORD|SECRET_KEY", str(worker["environment"]))
        assert worker["volumes"] == ["medical-seal:/var/lib/medical"]
        assert all("medical-seal" not in str(service) for name, service in services.items() if name != "medical-worker")
        script = " ".join((project / "deploy/initdb/20-medical-sealer.sql").read_text().split())
        assert "CREATE ROLE medical_sealer LOGIN NOSUPERUSER" in script
        assert "NOBYPASSRLS PASSWORD :'password';" in script


class TestSettings:
    """4, 5, 15: the containers have all their settings, and no secret is written down."""

    def test_05_no_secret_is_in_the_files(self, services: Services, development: Services) -> None:
        """Each is asked of the environment, and its absence is refused with the mend."""
        for service in (*services.values(), *development.values()):
            for name, value in service.get("environment", {}).items():
                if SECRETS.search(name) and name != "PUBLIC_URL":  # which everybody is told
                    references = REFERENCE.findall(value)
                    assert references, f"{name} is written down"
                    assert all(kind == ":?" and "medical init-env" in said for _, kind, said in references), name

    def test_05_init_env_writes_what_is_asked_for(self, project: Path) -> None:
        """No variable is demanded that `medical init-env` does not write."""
        demanded = {
            name
            for file in ("compose.yaml", "compose.dev.yaml")
            for name, kind, _ in REFERENCE.findall((project / file).read_text())
            if kind == ":?"
        }
        assert demanded == {"SECRET_KEY", "POSTGRES_PASSWORD", "MEDICAL_APP_PASSWORD", "MEDICAL_SEALER_PASSWORD"}
        assert demanded <= set(re.findall(r"^(\w+)=", TEMPLATE, re.MULTILINE))

    def test_15_every_setting_is_one_the_program_knows(self, services: Services, development: Services) -> None:
        """And can be read by it."""
        known = {item.metadata["name"] for item in fields(Settings)}
        for service in (*(services[name] for name in PROGRAM), *development.values()):
            environment = service.get("environment", {})
            assert set(environment) <= known
            assert isinstance(Settings.load(environ=_filled_in(environment)).mode, Mode)

    def test_04_the_factory_is_named_in_the_image(self, final_stage: str, containerfile: str) -> None:
        """By a variable, and by the file that hosts use."""
        assert "FLASK_APP=run:create_app" in final_stage
        assert re.search(r"^COPY .*\brun\.py \.flaskenv ", containerfile, re.MULTILINE)

    def test_16_nothing_makes_logs_unreadable_for_machines(self, services: Services) -> None:
        """Without a terminal the program logs JSON."""
        for name in PROGRAM:
            assert "tty" not in services[name]
            assert "LOG_FORMAT" not in services[name]["environment"]


class TestImage:
    """7: the image holds the locked requirements, and nothing that helps a burglar."""

    def test_07_the_lock_is_installed_with_its_hashes(self, containerfile: str, project: Path) -> None:
        """Flask-Migrate is part of it."""
        assert "--require-hashes -r requirements.lock" in containerfile
        assert re.search(r"^flask-migrate==", (project / "requirements.lock").read_text(), re.MULTILINE)

    def test_07_whoever_runs_it_is_nobody_special(self, final_stage: str) -> None:
        """A fixed user, and no installing in what is shipped."""
        assert re.search(r"^USER 10001:10001$", final_stage, re.MULTILINE)
        assert not re.search(r"apt-get|pip|ARG", final_stage)

    def test_07_the_program_may_do_nothing_but_serve(self, services: Services) -> None:
        """Nothing can be written but /tmp, no capability, and only this machine reaches the port."""
        for name in PROGRAM:
            assert services[name]["read_only"] is True
            assert services[name]["tmpfs"] == ["/tmp"]  # noqa: S108  # the container's own
            assert services[name]["cap_drop"] == ["ALL"]
            assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert services["medical-api"]["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]
        assert "ports" not in services["medical-db"]

    def test_05_no_secret_gets_into_the_image(self, project: Path) -> None:
        """The build does not see them, by either name of the file that says so."""
        ignored = (project / ".containerignore").read_text()
        assert {".env", ".env.*", "data", ".git"} <= set(ignored.splitlines())
        assert (project / ".dockerignore").read_text() == ignored


class TestDevelopment:
    """9: what is made in the container is there on the host."""

    def test_09_the_project_lies_over_the_image_s_copy(self, development: Services, final_stage: str) -> None:
        """For the program, and for the migration, which must know the new revisions."""
        workdir = re.search(r"^WORKDIR (\S+)$", final_stage, re.MULTILINE)
        assert workdir
        assert set(development) == set(PROGRAM)
        for service in development.values():
            assert service["volumes"] == [f".:{workdir[1]}"]

    def test_09_new_files_can_be_handed_to_the_host_s_user(self, development: Services) -> None:
        """Root in the container may write into the folder and give files away, see migrations/env.py."""
        for service in development.values():
            assert service["user"] == "0:0"
            assert set(service["cap_add"]) == {"CHOWN", "DAC_OVERRIDE"}

    def test_09_nothing_else_is_strewn_over_the_project(self, final_stage: str) -> None:
        """No bytecode of root's in the host's folders."""
        assert "PYTHONDONTWRITEBYTECODE=1" in final_stage


class TestData:
    """10: the database outlives its container."""

    def test_10_data_lie_in_a_named_volume(self, compose: dict[str, Any], services: Services) -> None:
        """Where PostgreSQL keeps them."""
        assert "medical-data:/var/lib/postgresql/data" in services["medical-db"]["volumes"]
        assert compose["volumes"] == {name: {"name": name} for name in ("medical-data", "medical-seal")}

    def test_10_nothing_deletes_the_volume(self, project: Path) -> None:
        """The flag that does is named in warnings only."""
        for file in _texts(project):
            for line in file.read_text(encoding="utf-8").splitlines():
                assert not DELETES_VOLUMES.search(line) or "never" in line.lower(), f"{file}: {line}"


class TestPager:
    """13: psql prints and returns."""

    @pytest.mark.parametrize("variable", ["PAGER", "PSQL_PAGER"])
    def test_13_no_container_has_a_pager(self, services: Services, final_stage: str, variable: str) -> None:
        """Neither the database's nor the program's."""
        assert services["medical-db"]["environment"][variable] == "cat"
        assert re.search(rf"\b{variable}=cat\b", final_stage)


def _filled_in(environment: dict[str, str]) -> dict[str, str]:
    """The values as compose passes them on, with a word for what it takes from outside."""
    return {
        name: REFERENCE.sub(lambda found: found[3] if found[2] in (":-", "-") else "word", value)
        for name, value in environment.items()
    }


def _texts(project: Path) -> list[Path]:
    """What people and programs read: instructions, compose files, scripts."""
    kinds = ("*.md", "*.yaml", "*.yml", "*.sh", "*.py", "Makefile", "Containerfile")
    folders = [project, *(project / name for name in ("docs", "deploy", "medical", "migrations", "tests", ".ci"))]
    found = {file for folder in folders[1:] for kind in kinds for file in folder.rglob(kind)}
    return sorted(found | {file for kind in kinds for file in project.glob(kind)} | set((project / ".ci").glob("*")))
