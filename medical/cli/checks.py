"""The doctor's checks; each looks at one thing and says what it means."""

import http.client
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg

from medical.cli.side import Side
from medical.config import ConfigurationError, Mode, Settings, secret_problems
from medical.platform import schema
from medical.platform.logins import login_of
from medical.platform.postgres import EmbeddedPostgres, PostgresError, postmaster
from medical.platform.revision import MIGRATIONS
from medical.platform.waiting import cause, connected, place

PROJECT = MIGRATIONS.parent


class Level(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw, and how to mend it."""

    level: Level
    name: str
    said: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the checks look at."""

    side: Side
    port: int


def ok(name: str, said: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, name, said)


def warn(name: str, said: str, mend: str) -> Finding:
    """Worth knowing; the program works."""
    return Finding(Level.WARN, name, said, mend)


def fail(name: str, said: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(Level.FAIL, name, said, mend)


def all_findings(installation: Installation) -> Iterator[Finding]:
    """Everything there is to say, in the order in which things depend on each other."""
    yield ok("side", f"this is {'a container' if installation.side is Side.CONTAINER else 'the host'}")
    yield from commands(installation)
    yield flask_app()
    yield pager()
    try:
        settings = Settings.load()
    except ConfigurationError as error:
        yield fail("settings", str(error), "correct the variables named, in the environment or in .env")
        return
    yield ok("settings", f"readable, mode {settings.mode}")
    yield secret(settings)
    yield application()
    yield migrations_folder(installation)
    yield from database(settings)
    yield storage(installation, settings)
    yield port(installation)


def commands(installation: Installation) -> Iterator[Finding]:
    """Whether the shell finds the programs (failures 7, 8 and 11)."""
    for name in ("flask", "medical"):
        if found := shutil.which(name):
            yield ok(f"command {name}", found)
        elif installation.side is Side.HOST or Path(sys.executable).with_name(name).exists():
            mend = f"`. .venv/bin/activate`, `python -m {name} …`, or `podman exec -it medical-api {name} …`"
            yield warn(f"command {name}", "not on this shell's PATH", mend)
        else:
            yield fail(f"command {name}", "not on this container's PATH", "build the image anew")


def flask_app() -> Finding:
    """Whether Flask's command line finds the factory (failures 4 and 15)."""
    name = "FLASK_APP"
    if os.environ.get(name) == "run:create_app":
        return ok(name, "run:create_app")
    if os.environ.get(name):
        return fail(name, f"{os.environ[name]!r} does not name the factory", "unset it, .flaskenv has it")
    if (Path.cwd() / ".flaskenv").exists():
        return ok(name, ".flaskenv in this folder names it")
    return warn(name, "no .flaskenv in this folder", f"cd {PROJECT}, or set FLASK_APP=run:create_app")


def pager() -> Finding:
    """Whether psql would show its answers in a pager (failure 13)."""
    value = os.environ.get("PSQL_PAGER", os.environ.get("PAGER"))
    if shutil.which("psql") is None:
        return ok("pager", "no psql here")
    if value is not None and value.strip() in ("", "cat"):
        return ok("pager", "off")
    return warn("pager", "psql shows long answers in a pager (q leaves it)", "export PSQL_PAGER=")


def secret(settings: Settings) -> Finding:
    """Whether there is a SECRET_KEY fit for use (failure 5)."""
    problems = secret_problems(settings.secret_key)
    if not problems:
        return ok("SECRET_KEY", "set")
    if not settings.secret_key and (settings.data / "secret_key").exists():
        return ok("SECRET_KEY", f"not set; demo mode keeps one in {settings.data / 'secret_key'}")
    if not settings.secret_key and settings.mode is Mode.DEMO:
        return ok("SECRET_KEY", "not set; demo mode makes one at its first start")
    return fail("SECRET_KEY", problems[0].partition(": ")[0], problems[0].partition(": ")[2])


def application() -> Finding:
    """Whether the application can be made, with mappers and ``db`` commands (failures 1, 2, 6 and 7)."""
    from medical.app import create_app

    try:
        flask_app = create_app()
    except Exception as error:  # whatever it is, it is the finding
        return fail("application", f"cannot be made: {type(error).__name__}: {error}", "put that right first")
    if "db" not in flask_app.cli.commands:
        return fail("application", "has no `db` commands", "install the locked requirements: `make .venv`")
    return ok("application", "made, mappers configured, `db` commands registered")


def migrations_folder(installation: Installation) -> Finding:
    """Whether new revisions would end up where they are kept (failure 9)."""
    folder = MIGRATIONS / "versions"
    if not folder.is_dir():
        return fail("migrations", f"{folder} is missing", "run from a clone of the project")
    if installation.side is Side.CONTAINER and not any(map(os.path.ismount, (folder, *folder.parents[:3]))):
        mend = "for development start with the override that mounts the project (see docs/operations.md)"
        return ok("migrations", f"part of the image; to write new ones: {mend}")
    if not os.access(folder, os.W_OK):
        return warn("migrations", f"{folder} cannot be written", "run as the owner of the project")
    return ok("migrations", f"{folder} can be written")


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, has the schema, and binds our role (failures 3 and 12)."""
    url, owner = settings.database_url, settings.owner_url
    if not url:
        embedded = EmbeddedPostgres(settings.data)
        finding = embedded_state(embedded)
        yield finding
        if finding.level is not Level.OK:
            return
        url, owner = embedded.app_url, embedded.owner_url
    try:
        with connected(url) as connection:
            version = connection.info.server_version // 10_000
        yield ok("database", f"PostgreSQL {version} answers at {place(url)}")
        yield revision(url)
        yield role(url, settings)
    except psycopg.OperationalError as error:
        yield fail("database", f"{place(url)}: {cause(error)}", "start it, or correct DATABASE_URL")
    except psycopg.Error as error:
        yield fail("database", cause(error), f"check what the roles of {place(owner)} may do")


def embedded_state(embedded: EmbeddedPostgres) -> Finding:
    """Whether the embedded server runs, and what a crash left behind."""
    name, folder = "embedded PostgreSQL", embedded.folder
    try:
        if embedded.look():
            return ok(name, f"runs on {folder}")
        if (folder / postmaster.FILE).exists():
            return warn(name, f"died and left {postmaster.FILE} in {folder}", "`medical run` clears it away")
        made = (folder / "PG_VERSION").exists()
    except (PermissionError, PostgresError) as error:
        return fail(name, f"{folder} cannot be read ({error})", "run as its owner, or choose another --data")
    if made:
        return warn(name, f"does not run on {folder}", "`medical run` starts it")
    return warn(name, f"not made yet in {folder}", "`medical run` makes it; or set DATABASE_URL")


def revision(url: str) -> Finding:
    """Whether the schema is the one this program works with (failure 12)."""
    found, wanted = schema.revisions(url)
    if found == wanted:
        return ok("schema", f"at revision {found}")
    try:
        schema.ensure_known(found)
    except schema.SchemaNewer as error:
        return fail("schema", str(error), "as the sentence says")
    return fail("schema", f"at revision {found}, wanted {wanted}", "`medical db upgrade` as the owner's role")


def role(url: str, settings: Settings) -> Finding:
    """Whether row-level security binds the role of the web process."""
    login = login_of(url)
    if login.restricted:
        return ok("role", f"{login.role} is bound by row-level security")
    mend = "log in as a role without SUPERUSER and BYPASSRLS; keep this one for MIGRATION_DATABASE_URL"
    level = fail if settings.mode is Mode.PRODUCTION else warn
    return level("role", f"{login.role} goes round row-level security", mend)


def storage(installation: Installation, settings: Settings) -> Finding:
    """Whether data outlive a restart (failure 10)."""
    if settings.database_url:
        return ok("storage", "with DATABASE_URL's server; never `podman-compose down -v`, which deletes its volume")
    data = settings.data.absolute()
    if installation.side is Side.CONTAINER and not any(map(os.path.ismount, (data, *data.parents[:-1]))):
        return warn("storage", f"{data} goes with the container", "mount a volume there, or set DATABASE_URL")
    return ok("storage", f"in {data}")


def port(installation: Installation) -> Finding:
    """Who listens at the port."""
    name, number = f"port {installation.port}", installation.port
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        said = answer.read(300).decode(errors="replace")
    except ConnectionRefusedError:
        return ok(name, "free; nothing serves there")
    except (OSError, http.client.HTTPException) as error:
        return warn(name, f"something else listens ({error})", "start with another --port")
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return ok(name, "Medical Backend serves there and is ready")
    return fail(name, f"answers {answer.status}: {said}", "the answer says what is missing")
