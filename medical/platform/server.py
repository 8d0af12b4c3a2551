"""Serving HTTP: Granian's processes, started and stopped in good order, and gone when their parent is."""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from medical.config import Settings
from medical.platform.logging import configure, get_logger, log_crashes
from medical.platform.processes import end_with_parent
from medical.platform.refusal import Refused

BACKLOG = 1024
CONNECTIONS_PER_WORKER = 512
"""Open connections, idle ones included, that a worker holds before it leaves new ones to the others."""

MAXIMUM_HEAD = 64 * 1024
"""Bytes that the first line and the headers of a request may have together."""

DRAIN_SECONDS = 10
"""How long requests in flight may take after the order to stop."""

METRICS = "medical-metrics-"

LOGGING = {
    "version": 1,
    "incremental": True,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}},
}
"""Leaves our handlers alone and sends Granian's lines to them."""

log = get_logger(__name__)


class PortTaken(Refused):
    """Nothing can listen at the address asked for."""


class Reservation:
    """An address kept for this program: free when taken, and nobody else's while it is held."""

    def __init__(self, host: str, port: int) -> None:
        """Raise ``PortTaken`` when something else listens there, or the address is not this machine's."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                if os.name == "posix":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            self._held = socket.socket(family, kind, protocol) if sys.platform == "linux" else None
            if self._held:
                self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                self._held.bind(address)
        except PermissionError as error:
            raise PortTaken(f"port {port} is for root only: choose one above 1023 with --port") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise PortTaken(f"{host}:{port} is not free ({reason}): choose another with --port") from error

    def release(self) -> None:
        """Give the address back."""
        if self._held:
            self._held.close()
            self._held = None


class Server(MPServer):
    """Granian with our ways: one log format, an end on SIGHUP, and a word when its workers are there."""

    def __init__(self, host: str, port: int, settings: Settings) -> None:
        super().__init__(
            target="run:create_app",
            address=host,
            port=port,
            interface=Interfaces.WSGI,
            workers=settings.workers,
            blocking_threads=settings.database_pool_size,
            backlog=BACKLOG,
            backpressure=CONNECTIONS_PER_WORKER,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=MAXIMUM_HEAD),
            websockets=False,
            log_level=LogLevels.error,
            log_dictconfig=LOGGING,
            workers_kill_timeout=DRAIN_SECONDS,
            respawn_failed_workers=True,
        )
        self.on_startup(self._hang_up_is_an_end)

    def shutdown(self, exit_code: int = 0) -> None:
        """Let requests in flight finish, for a while, and end the workers."""
        log.info("draining", seconds=DRAIN_SECONDS)
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]  # the library has no types here

    def _hang_up_is_an_end(self) -> None:
        """A closed terminal ends the program, unless it was started to outlive it (nohup)."""
        logging.getLogger("_granian").setLevel(logging.WARNING)
        if sys.platform != "win32" and self._hang_up is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.signal_handler_interrupt)
        elif sys.platform != "win32":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        super()._spawn_workers(spawn_target, target_loader)  # type: ignore[no-untyped-call]  # as above
        self._spawned()

    def run(self, create_app: Callable[[], Any], spawned: Callable[[], None] = lambda: None) -> None:
        """Serve until told to stop; raises ``Refused`` when the workers end again and again.

        ``spawned`` is called once the workers are forked: the place to start threads, whose locks a
        fork would copy as they happen to be.
        """
        self._spawned = spawned
        self._hang_up = signal.getsignal(signal.SIGHUP) if sys.platform != "win32" else None
        metrics = os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder()
        try:
            self.serve(target_loader=partial(load, create_app), wrap_loader=False)
        except SystemExit as error:
            raise Refused("the web processes end again and again: the lines above say why") from error
        finally:
            shutil.rmtree(metrics, ignore_errors=True)


def metrics_folder() -> str:
    """A fresh folder through which the workers add up their metrics; those of killed programs are removed."""
    base = Path(tempfile.gettempdir())
    for folder in base.glob(f"{METRICS}*"):
        owner = folder.name.removeprefix(METRICS).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{METRICS}{os.getpid()}-", dir=base)


def load(create_app: Callable[[], Any]) -> Any:
    """The application, in a worker process that leaves the terminal's signals to its parent.

    Ends the process when there is none: what is wrong is in the log.
    """
    end_with_parent()
    configure(Settings.load())
    log_crashes()
    try:
        return create_app()
    except Exception as error:
        log.critical("worker_failed", error=type(error).__name__, exc_info=error)
        sys.exit(1)
