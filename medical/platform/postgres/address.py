"""Where the server listens: a socket that only its owner reaches, or on Windows a port with a password."""

import hashlib
import os
import secrets
import socket
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from medical.platform.postgres.account import Account
from medical.platform.postgres.errors import PostgresError
from medical.platform.postgres.postmaster import Postmaster

WINDOWS = sys.platform == "win32"
PORT = 5432
"""Only names the socket's file; nothing listens on TCP except on Windows."""

SHORT = "medical-socket-"
LONGEST_SOCKET_FOLDER = 85
"""In bytes; a socket's whole path has at most 104 on macOS, 108 on Linux."""


def settings(folder: Path, account: Account | None, port: int | None) -> dict[str, str]:
    """The server's settings about listening; ``port`` is the one it had before, where it listens on TCP."""
    if WINDOWS:
        return {
            "listen_addresses": "127.0.0.1",
            "port": str(port or _free_port()),
            "unix_socket_directories": "",
        }
    found = socket_folder(folder, account)
    clear(found)
    place = str(found).replace('"', '""')
    return {"listen_addresses": "", "port": str(PORT), "unix_socket_directories": f'"{place}"'}


def conninfo(server: Postmaster, role: str, database: str, secret: str | None) -> str:
    """Where ``role`` reaches ``database``, as libpq takes it."""
    if secret:
        return f"postgresql://{role}:{secret}@{server.place}:{server.port}/{database}"
    return f"postgresql://{role}@/{database}?host={quote(server.place, safe='')}&port={server.port}"


def socket_folder(folder: Path, account: Account | None) -> Path:
    """The data folder itself, which only its owner may enter; a short one where a socket cannot lie there.

    A socket's path has a limit, and a comma parts one host from the next. Raises ``PostgresError`` when
    the short one belongs to somebody else.
    """
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER and "," not in str(folder):
        return folder
    name = SHORT + hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) + len(name) > LONGEST_SOCKET_FOLDER:
        base = Path("/tmp")  # noqa: S108  # whose the folder is gets checked
    short = base / name
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    ours = {os.geteuid(), account.uid if account else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours or stat.S_IMODE(status.st_mode) & 0o077:
        raise PostgresError(f"{short} belongs to somebody else: remove it, or choose a shorter --data")
    if account:
        os.chown(short, account.uid, account.gid)
    return short


def clear(place: Path) -> None:
    """Remove a dead server's socket: a new one refuses to start when its process id was given to another process."""
    for file in place.glob(".s.PGSQL.*"):
        file.unlink()


def leave(place: str) -> None:
    """Remove a short folder of a stopped server; any other is left alone, and so is one with something in it."""
    if Path(place).name.startswith(SHORT) and not any(Path(place).iterdir()):
        Path(place).rmdir()


def password(data: Path, *, create: bool = False) -> str | None:
    """The password of all roles where the server listens on TCP; None where its folder protects it."""
    if not WINDOWS:
        return None
    file = data / "postgres_password"
    if create and not file.exists():
        with open(file, "x", opener=private) as output:
            output.write(secrets.token_urlsafe(32))
    return file.read_text()


def private(path: str, flags: int) -> int:
    """Opens a file that only its owner may read, for ``open``."""
    return os.open(path, flags, 0o600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
