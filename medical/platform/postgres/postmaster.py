"""Which server runs on a data folder: ``postmaster.pid`` read with distrust."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

FILE = "postmaster.pid"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A living server; ``place`` is its socket's folder, or its address where it listens on TCP."""

    process: psutil.Process
    place: str
    port: int
    status: str


def find(folder: Path) -> Postmaster | None:
    """The server that runs on ``folder``; None when its file is absent, broken, or about another process."""
    try:
        lines = [line.strip() for line in (folder / FILE).read_text(errors="replace").splitlines()]
    except FileNotFoundError:
        return None
    if len(lines) < 6 or not lines[0].isdecimal() or not lines[3].isdecimal():
        return None
    try:
        process = psutil.Process(int(lines[0]))
        if not serves(process, folder):
            return None
    except psutil.NoSuchProcess:
        return None
    return Postmaster(process, lines[4] or lines[5], int(lines[3]), lines[7] if len(lines) > 7 else "starting")


def serves(process: psutil.Process, folder: Path) -> bool:
    """Whether ``process`` is a PostgreSQL on ``folder``: all of its processes live in that folder."""
    try:
        named = process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE
        return named and Path(process.cwd()).resolve() == folder.resolve()
    except (psutil.AccessDenied, psutil.NoSuchProcess, FileNotFoundError):
        return False


def end_leftovers(folder: Path) -> int:
    """End what is left of a server whose ``postmaster.pid`` is no good, remove the file; how many that were.

    After a killed postmaster its backends may still finish a statement, and no new server starts beside them.
    """
    found = [process for process in psutil.process_iter() if serves(process, folder)]
    for process in found:
        _quit(process)
    _, stubborn = psutil.wait_procs(found, timeout=5)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    (folder / FILE).unlink(missing_ok=True)
    return len(found)


def _quit(process: psutil.Process) -> None:
    """Make a process of PostgreSQL end at once; what it had not committed is rolled back."""
    try:
        if sys.platform == "win32":
            process.terminate()
        else:
            process.send_signal(signal.SIGQUIT)
    except psutil.NoSuchProcess:
        return
