"""``medical`` as a person starts it: a process of its own, watched from outside."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil

PROJECT = Path(__file__).parents[2]
SECRET = "4Zk2vQx8Lr6Wt1Ns9Ub3-of-a-program-under-test"
PATIENCE = 60.0
LOOK = 0.02


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """The environment of a fresh shell in the project's folder, with ``settings``."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return kept | {"PYTHONPATH": str(PROJECT), "LOG_FORMAT": "json"} | settings


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder outside pytest's own, whose way in each run of pytest by root shuts for PostgreSQL's user."""
    place = Path(tempfile.mkdtemp(prefix="medical-test-"))
    yield place
    try:
        shutil.rmtree(place)
    except FileNotFoundError:  # a server that was killed took a file of its own away meanwhile
        shutil.rmtree(place)


def medical(*arguments: str, cwd: Path = PROJECT, **settings: str) -> subprocess.CompletedProcess[str]:
    """What a command that ends says and returns."""
    return subprocess.run(
        [sys.executable, "-m", "medical", *arguments],
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def events(output: str) -> list[dict[str, Any]]:
    """The lines of a log; each must be JSON."""
    return [json.loads(line) for line in output.splitlines()]


class Program:
    """A running ``medical run``; leaving the block ends it and whatever it left behind."""

    def __init__(self, data: Path, *arguments: str, port: int | None = None, **settings: str) -> None:
        self.data = data
        self.port = port or free_port()
        self.output = data.parent / f"{data.name}.{self.port}.log"
        command = [sys.executable, "-m", "medical", "run", "--data", str(data), "--port", str(self.port), *arguments]
        usual = {"SECRET_KEY": SECRET, "WEB_WORKERS": "1"}  # each worker takes a while to begin
        with self.output.open("w") as output:
            self.process = psutil.Popen(
                command,
                cwd=PROJECT,
                env=environment(**(usual | settings)),
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        server = self.postgres()
        family = [self.process, *self.process.children(recursive=True)] if self.process.is_running() else []
        for process in [*family, *([server] if server else [])]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(PATIENCE)

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        return events(self.output.read_text())

    def event(self, name: str) -> dict[str, Any]:
        """The line ``name`` of the log, waited for."""
        return until(lambda: next((line for line in self.events() if line["event"] == name), None), name)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one request."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and body of one request, with a body of JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            if body is None:
                connection.request(method, path, headers=sent)
            else:
                connection.request(method, path, json.dumps(body), sent | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def workers(self) -> list[psutil.Process]:
        """Its processes that answer requests."""
        return [child for child in self.process.children() if not child.name().startswith("postgres")]

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.get("/health/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ready(self) -> Self:
        """Itself, once it is ready to serve; an early end of it is an error."""
        until(lambda: self.is_ready() or self.ended(), "ready")
        assert not self.ended(), self.output.read_text()
        return self

    def ended(self) -> bool:
        """Whether it is over."""
        return self.process.poll() is not None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code after the signal."""
        self.process.send_signal(number)
        return int(self.process.wait(PATIENCE))

    def postgres(self) -> psutil.Process | None:
        """The embedded server's process, if it runs."""
        try:
            process = psutil.Process(int((self.data / "postgres/postmaster.pid").read_text().split("\n")[0]))
            return process if process.name().startswith("postgres") else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None


def over(process: psutil.Process) -> bool:
    """Whether the process ended; one that waits for its parent to notice has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Any, name: str, patience: float = PATIENCE) -> Any:
    """What ``condition()`` gives as soon as it is something; fails when that takes too long."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {name}"
        time.sleep(LOOK)
    return result
