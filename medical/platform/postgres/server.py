"""Starting, finding and stopping the embedded server."""

import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from medical.platform.logging import get_logger
from medical.platform.postgres import address, binaries, postmaster, roles
from medical.platform.postgres.account import Account, give, open_installation, open_way, server_account
from medical.platform.postgres.address import WINDOWS
from medical.platform.postgres.cluster import initialise
from medical.platform.postgres.errors import PostgresError
from medical.platform.postgres.folder import usable
from medical.platform.postgres.locks import Lock
from medical.platform.postgres.roles import APP_LOGIN, DATABASE, OWNER_LOGIN, SUPERUSER

START_SECONDS = 600
"""How long a start may take: after a crash the server first repeats what its log holds."""

STOP_SECONDS = 60
LARGEST_LOG = 10_000_000
WITHOUT_DURABILITY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

log = get_logger(__name__)


class EmbeddedPostgres:
    """The server of one data folder, shared by all programs that use the folder.

    The last one to leave stops it; one that was killed counts as having left. With ``durable=False`` (tests)
    a power failure may lose data.
    """

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        self.data = Path(data).expanduser().absolute()
        self.folder = self.data / "postgres"
        self.log_file = self.data / "postgres.log"
        self._durable = durable
        self._starting = Lock(self.data / ".postgres-starting")
        self._in_use = Lock(self.data / ".postgres-in-use")
        self._process: subprocess.Popen[bytes] | None = None
        self._started = False
        self._server: postmaster.Postmaster | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Find the server of the folder or start it, and see to its roles and database.

        Raises ``PostgresError``.
        """
        with usable(self.data):
            self._starting.own()
            try:
                self._in_use.share()
                self._ensure_running()
                roles.provide(self._conninfo(SUPERUSER, "postgres"), address.password(self.data))
            except BaseException:
                self._leave()
                raise
            finally:
                self._starting.release()

    def stop(self) -> None:
        """Leave the server; stop it unless another living program uses it."""
        with usable(self.data):
            self._starting.own()
            try:
                self._leave()
            finally:
                self._starting.release()

    def revive(self) -> bool:
        """Start the server again if it died; whether it had. Raises ``PostgresError`` if that fails."""
        if postmaster.find(self.folder):
            return False
        if self._server:
            _ended(self._server.process, 0)
        if not (self.folder / "PG_VERSION").exists():
            raise PostgresError(f"the database's folder {self.folder} is gone: put it back, or restore a backup")
        with usable(self.data):
            self._starting.own()
            try:
                self._ensure_running()
            finally:
                self._starting.release()
        return True

    def look(self) -> bool:
        """Whether a server runs on the folder; gives its addresses without becoming one of its users."""
        self._server = postmaster.find(self.folder)
        return self._server is not None

    @property
    def app_url(self) -> str:
        """Where the web process connects."""
        return self._url(APP_LOGIN, DATABASE)

    @property
    def owner_url(self) -> str:
        """Where migrations connect."""
        return self._url(OWNER_LOGIN, DATABASE)

    def _ensure_running(self) -> None:
        found = postmaster.find(self.folder)
        if found and found.status == "stopping":
            self._await_end(found.process, STOP_SECONDS)
            found = None
        if found:
            self._server = self._await_ready(found.process)
            log.info("postgres_found", folder=str(self.folder), pid=found.process.pid)
            return
        if (self.folder / postmaster.FILE).exists():
            ended = postmaster.end_leftovers(self.folder)
            log.warning("postgres_leftovers_removed", folder=str(self.folder), processes=ended)
        self._launch()

    def _launch(self) -> None:
        started = time.monotonic()
        account = server_account(self.folder)
        open_installation(binaries.installation(), account)
        open_way(self.folder, account)
        initialise(self.folder, account, address.password(self.data, create=True))
        if account and self.folder.stat().st_uid != account.uid:
            give(self.folder, account)
        if self.log_file.exists() and self.log_file.stat().st_size > LARGEST_LOG:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with open(self.log_file, "ab", opener=address.private) as output:
            offset = output.tell()
            command = self._command(account)
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **binaries.options(account)
            )
        self._server = self._await_ready(self._process, offset)
        self._process.returncode = 0  # from here on it is known by its pid file, like one that was found
        self._process = None
        self._started = True
        seconds = round(time.monotonic() - started, 2)
        log.info("postgres_started", folder=str(self.folder), pid=self._server.process.pid, seconds=seconds)

    def _command(self, account: Account | None) -> list[str]:
        """The server's command; on Windows by way of ``pg_ctl``, which gives up an administrator's rights."""
        settings = address.settings(self.folder, account, self._server.port if self._server else None)
        if not self._durable:
            settings |= WITHOUT_DURABILITY
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        if WINDOWS:
            options = subprocess.list2cmdline(words)
            return [binaries.program("pg_ctl"), "-D", str(self.folder), "-s", "-W", "-o", options, "start"]
        return [binaries.program("postgres"), "-D", str(self.folder), *words]

    def _await_ready(self, process: Any, offset: int | None = None) -> postmaster.Postmaster:
        """The server as soon as it takes connections; ``process`` is waited on so that its end is noticed."""
        began = noted = time.monotonic()
        while time.monotonic() - began < START_SECONDS:
            found = postmaster.find(self.folder)
            if found and found.status in ("ready", "standby"):
                return found
            if time.monotonic() - noted > 5:
                noted = time.monotonic()
                log.info("postgres_recovering", folder=str(self.folder), seconds=round(noted - began))
            if _ended(process, 0.05):
                raise PostgresError(f"PostgreSQL did not start in {self.folder}: {self._last_words(offset)}")
        raise PostgresError(f"PostgreSQL in {self.folder} was not ready after {START_SECONDS} s: see {self.log_file}")

    def _last_words(self, offset: int | None) -> str:
        with self.log_file.open("rb") as output:
            output.seek(offset or 0)
            said = output.read().decode(errors="replace")
        return f"{binaries.last_words(said)} (see {self.log_file})"

    def _leave(self) -> None:
        alone = self._started if WINDOWS else self._in_use.own_at_once()
        try:
            if alone:
                self._halt()
            else:
                log.info("postgres_left_running", folder=str(self.folder), reason="another program uses it")
        finally:
            self._in_use.release()

    def _halt(self) -> None:
        """Stop the server: clients are cut off, what is committed is on disk; by force if it lingers."""
        found = postmaster.find(self.folder)
        process = found.process if found else self._process
        if process is None or _ended(process, 0):
            return
        began = time.monotonic()
        if WINDOWS:
            command = [binaries.program("pg_ctl"), "-D", str(self.folder), "-s", "-w", "-m", "fast", "stop"]
            binaries.run(command, account=None)
        else:
            process.send_signal(signal.SIGINT)
            if not self._await_end(process, STOP_SECONDS):
                log.warning("postgres_stop_forced", folder=str(self.folder))
                process.send_signal(signal.SIGQUIT)
                self._await_end(process, STOP_SECONDS)
        if found:
            address.leave(found.place)
        log.info("postgres_stopped", folder=str(self.folder), seconds=round(time.monotonic() - began, 2))

    @staticmethod
    def _await_end(process: Any, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _ended(process, 0.1):
                return True
        return False

    @property
    def superuser_url(self) -> str:
        """Where tests make databases of their own."""
        return self._url(SUPERUSER, "postgres")

    def _url(self, role: str, database: str) -> str:
        return self._conninfo(role, database).replace("postgresql:", "postgresql+psycopg:", 1)

    def _conninfo(self, role: str, database: str) -> str:
        if self._server is None:
            raise PostgresError(f"PostgreSQL in {self.folder} was not started")
        return address.conninfo(self._server, role, database, address.password(self.data))


def _ended(process: Any, seconds: float) -> bool:
    """Whether ``process`` (ours or found) ended within ``seconds``; a zombie has ended."""
    try:
        process.wait(timeout=seconds)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return isinstance(process, psutil.Process) and not _lives(process)
    if WINDOWS and isinstance(process, subprocess.Popen):
        return process.returncode != 0
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
