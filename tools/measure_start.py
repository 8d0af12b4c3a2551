"""Measure what README's table says of starting: `python tools/measure_start.py`, from the project's folder.

Clones the last commit into a temporary folder, starts it there with `make run` as a newcomer would, twice,
and reads the memory of the idle program from the kernel (Linux only).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

PROJECT = Path(__file__).resolve().parent.parent
DEADLINE = 300
IDLE_SECONDS = 5


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(folder: Path, port: int) -> Iterator[tuple[float, int]]:
    """`make run` in ``folder``; seconds to the first good answer of /health/ready, and the process id of make."""
    began = time.monotonic()
    log = folder.parent / "run.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["make", "run", f"PORT={port}"], cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while not answers(port):
            if process.poll() is not None or time.monotonic() - began > DEADLINE:
                raise SystemExit(f"it did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield time.monotonic() - began, process.pid
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()


def answers(port: int) -> bool:
    """Whether the program is ready."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return bool(json.load(answer)["status"] == "ready")
    except (URLError, OSError, ValueError):
        return False


def memory(make: int) -> dict[str, float]:
    """MiB of the program's processes, without PostgreSQL and make: shared pages counted once, and each time."""
    family = [one for one in psutil.Process(make).children(recursive=True) if not one.name().startswith("postgres")]
    used = [one.memory_full_info() for one in family]
    return {"pss": sum(one.pss for one in used) / 2**20, "rss": sum(one.rss for one in used) / 2**20}


def main() -> None:
    """Print the figures as rows of a table."""
    port = free_port()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(folder)], check=True)
        with running(folder, port) as (first, _):
            pass
        with running(folder, port) as (later, make):
            time.sleep(IDLE_SECONDS)
            used = memory(make)
    print(f"first start, from a fresh clone   {first:6.1f} s")
    print(f"later start                       {later:6.1f} s")
    print(f"idle memory, shared counted once  {used['pss']:6.0f} MiB")
    print(f"idle memory, sum of resident sets {used['rss']:6.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
