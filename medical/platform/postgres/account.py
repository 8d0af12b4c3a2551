"""As whom the server runs: PostgreSQL refuses root, so root starts it as a system user of its own."""

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from medical.platform.logging import get_logger
from medical.platform.postgres.errors import PostgresError

NAME = "medical-postgres"
ORDINARY = "run as an ordinary user instead"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def server_account(folder: Path) -> Account | None:
    """As whom to run the server of ``folder``; None: as ourselves, who are not root.

    Root runs an ordinary user's folder as that user, and its own as ``medical-postgres``.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    if (folder / "PG_VERSION").exists() and (owner := folder.stat().st_uid) != 0:
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            return Account(str(owner), owner, folder.stat().st_gid)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _create()
        entry = pwd.getpwnam(NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create() -> None:
    """Make the system user, with neither home nor shell, unless another start has made it meanwhile.

    ``useradd`` looks for the name before it locks: two at once would make it twice, with two numbers.
    """
    if sys.platform == "win32":
        return
    import fcntl
    import pwd

    folder = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if NAME not in {entry.pw_name for entry in pwd.getpwall()}:
            _add_user()
    finally:
        os.close(folder)


def _add_user() -> None:
    useradd = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if useradd is None:
        raise PostgresError(f"PostgreSQL does not run as root, and without useradd no {NAME} can be made: {ORDINARY}")
    command = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", shutil.which("nologin", path="/usr/sbin:/sbin") or "/bin/false", NAME]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = " ".join((result.stderr or result.stdout).split())
        raise PostgresError(f"the system user {NAME} could not be made ({said}): {ORDINARY}")
    log.info("system_user_created", user=NAME)


def give(path: Path, account: Account | None) -> None:
    """Make ``path`` and all in it belong to ``account``."""
    if sys.platform == "win32" or account is None:
        return
    for place, folders, files in os.walk(path):
        for name in [place, *folders, *files]:
            os.chown(Path(place, name), account.uid, account.gid, follow_symlinks=False)


def open_way(target: Path, account: Account | None) -> None:
    """Let ``account`` pass through the folders above ``target``, not list them; each change is logged."""
    if account is None:
        return
    for folder in reversed(target.resolve().parents):
        mode = folder.stat().st_mode
        passable = mode & stat.S_IXOTH or (folder.stat().st_uid == account.uid and mode & stat.S_IXUSR)
        if not passable:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            log.info("folder_made_passable", folder=str(folder), reason="PostgreSQL runs as " + account.name)


def open_installation(folder: Path, account: Account | None) -> None:
    """Let ``account`` read the (public) files of PostgreSQL where a strict umask hid them."""
    if account is None:
        return
    open_way(folder, account)
    changed = 0
    for root in (folder, folder.parent.with_suffix(".libs")):
        for place, _, files in os.walk(root):
            changed += sum(_make_readable(Path(place, name)) for name in ["", *files])
    if changed:
        log.info("postgres_made_readable", folder=str(folder), files=changed)


def _make_readable(path: Path) -> bool:
    """Give others the right to read ``path``, and to run it where its owner may; say whether it lacked."""
    mode = stat.S_IMODE(path.lstat().st_mode)
    wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
    if mode == wanted or path.is_symlink():
        return False
    path.chmod(wanted)
    return True
