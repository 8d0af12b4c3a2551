"""Making a new data folder of PostgreSQL, whole or not at all."""

import locale
import os
import shutil
import sys
import tempfile
from pathlib import Path

from medical.platform.logging import get_logger
from medical.platform.postgres import binaries
from medical.platform.postgres.account import Account, give
from medical.platform.postgres.errors import PostgresError
from medical.platform.postgres.roles import SUPERUSER

SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
"""For ``postgresql.conf``, where an operator may change them; the last two keep patients out of the log."""

log = get_logger(__name__)


def initialise(folder: Path, account: Account | None, password: str | None) -> None:
    """Make ``folder`` unless it is there; raises ``PostgresError`` when it holds something else.

    The work is done beside it and renamed, so a start that was killed leaves nothing half made.
    """
    version = folder / "PG_VERSION"
    if version.exists():
        found, ours = version.read_text().strip(), str(binaries.major_version())
        if found != ours:
            raise PostgresError(
                f"{folder} was made by PostgreSQL {found} and this program carries {ours}:"
                f" dump it with the program it came from and load it into a new --data"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise PostgresError(f"{folder} holds something other than a database: move it away, or choose another --data")
    log.info("postgres_initialising", folder=str(folder))
    fresh = folder.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if account:
        os.chown(fresh, account.uid, account.gid)
    try:
        _initdb(fresh, account, password)
    except PostgresError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise PostgresError(f"no database could be made in {folder.parent} ({error})") from error
    if folder.exists():
        folder.rmdir()
    fresh.rename(folder)


def _initdb(folder: Path, account: Account | None, password: str | None) -> None:
    command = [
        binaries.program("initdb"),
        "-D",
        str(folder),
        "-U",
        SUPERUSER,
        "-E",
        "UTF8",
        "--data-checksums",
    ]
    command += [
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        f"--lc-ctype={character_type()}",
    ]
    command += [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    if password is None:
        binaries.run([*command, "--auth-local=trust", "--auth-host=reject"], account=account)
        return
    with tempfile.TemporaryDirectory() as private:
        file = Path(private) / "password"
        file.write_text(password)
        give(Path(private), account)
        binaries.run([*command, "--auth=scram-sha-256", f"--pwfile={file}"], account=account)


def character_type() -> str:
    """A locale of this machine that knows letters beyond ASCII: pg_trgm asks the system what a letter is."""
    if sys.platform == "win32":
        return "C"
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        for name in ("C.UTF-8", "en_US.UTF-8"):
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            return name
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return "C"
