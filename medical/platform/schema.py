"""The database's schema: which revision it has, which one this program needs, and the way there."""

import time
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from medical.platform.logging import get_logger
from medical.platform.refusal import Refused
from medical.platform.revision import MIGRATIONS, wanted_revision
from medical.platform.waiting import cause, connected

log = get_logger(__name__)


class SchemaError(Refused):
    """The schema cannot be brought to what this program needs; the text says why and how to mend it."""


class SchemaNewer(SchemaError):
    """The database was migrated by a newer program than this one."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"the database has revision {found} and this program knows up to {wanted}:"
            " install the newer program, or restore a backup made before the upgrade"
        )


def configuration(owner_url: str | None = None) -> Config:
    """Alembic's configuration; ``migrations/env.py`` connects to ``owner_url``, else as the settings say."""
    config = Config(str(MIGRATIONS / "alembic.ini"))
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["owner_url"] = owner_url
    return config


@cache
def scripts() -> ScriptDirectory:
    """The migrations this program came with, as they were when it started."""
    return ScriptDirectory.from_config(configuration())


def revisions(url: str) -> tuple[str | None, str]:
    """The revision that the database has (None: it is empty) and the one this program needs."""
    with connected(url) as connection:
        exists = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
        if exists is None or exists[0] is None:
            return None, wanted_revision()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return (row[0] if row else None), wanted_revision()


def ensure_known(found: str | None) -> None:
    """Raise ``SchemaNewer`` when no migration of this program made revision ``found``."""
    if found is None:
        return
    try:
        known = scripts().get_revision(found)
    except CommandError:
        known = None
    if known is None:
        raise SchemaNewer(found, wanted_revision())


def migrate(owner_url: str) -> None:
    """Bring the schema to the revision this program needs; does nothing where it has it.

    Several programs may do so at once: an advisory lock lets one work while the others wait, see
    ``migrations/env.py``. Raises ``SchemaNewer`` or ``SchemaError``.
    """
    found, wanted = revisions(owner_url)
    ensure_known(found)
    if found == wanted:
        log.info("schema_current", revision=found)
        return
    log.info("migration_started", found=found, wanted=wanted)
    began = time.monotonic()
    try:
        command.upgrade(configuration(owner_url), "head")
    except (DBAPIError, CommandError) as error:
        failure = getattr(error, "orig", None) or error
        log.debug("migration_failed", exc_info=True)
        raise SchemaError(
            f"the migration from {found or 'an empty database'} to {wanted} failed ({cause(failure)}):"
            " the revision that failed was rolled back; mend the cause and start again"
        ) from error
    log.info("migration_finished", found=found, wanted=wanted, seconds=round(time.monotonic() - began, 2))


def warn_behind(found: str | None, wanted: str) -> None:
    """Say in the log that the schema waits for its migration, which this program's role may not do."""
    mend = "run `medical db upgrade` with MIGRATION_DATABASE_URL set to the role that owns the schema"
    log.warning("schema_behind", found=found, wanted=wanted, mend=mend)
