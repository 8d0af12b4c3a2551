"""Saying that the program is ready, and where everything is."""

import http.client
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click

from medical.config import LogFormat, Mode, Settings
from medical.platform.logging import get_logger, log_format

LOOK_SECONDS = 0.1
IMPATIENT_SECONDS = 20

log = get_logger(__name__)


class Announcer:
    """Tells where the program is once it is ready: a block of text for people, a line for machines."""

    def __init__(self, host: str, port: int, settings: Settings, accounts: Sequence[Any]) -> None:
        """``accounts`` are the demo's: role, address, password of each."""
        self._address = ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104  # not bound here
        self._settings = settings
        self._accounts = accounts
        self._began = time.monotonic()

    def run(self, over: threading.Event) -> None:
        """Announce once ``/health/ready`` says so; give up when ``over``."""
        grumbled = False
        while not over.wait(LOOK_SECONDS):
            status, said = self._ask()
            if status == http.client.OK:
                self._announce()
                return
            if not grumbled and time.monotonic() - self._began > IMPATIENT_SECONDS:
                grumbled = True
                log.warning("not_ready_yet", status=status, answer=said)

    def _ask(self) -> tuple[int | None, str]:
        connection = http.client.HTTPConnection(*self._address, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return None, str(error)
        finally:
            connection.close()

    def _announce(self) -> None:
        host, port = self._address
        base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("ready", url=base, seconds=round(time.monotonic() - self._began, 2))
        machines_read = log_format(self._settings) is LogFormat.JSON
        if not machines_read or self._accounts or sys.stderr.isatty():
            click.echo(self._block(base), err=machines_read)

    def _block(self, base: str) -> str:
        data = "DATABASE_URL" if not self._embedded() else str(self._settings.data)
        lines = [
            "",
            "Medical Backend is ready.",
            "",
            f"  API         {base}/api/v1",
            f"  Swagger UI  {base}/api/docs",
            f"  Health      {base}/health/ready",
            f"  Data        {data}",
            "  Stop        Ctrl-C",
            "",
        ]
        if self._accounts:
            width = max(len(email) for _, email, _ in self._accounts)
            lines += ["Demo accounts (made-up people; this mode listens on this machine only):", ""]
            lines += [f"  {role:<16}{email:<{width}}  {password}" for role, email, password in self._accounts]
            lines += [""]
        elif self._settings.mode is not Mode.DEMO:
            lines += ["The first account: medical create-admin --help", ""]
        return "\n".join(lines)

    def _embedded(self) -> bool:
        return not self._settings.database_url
