"""``medical run``: from nothing to a serving program with one command."""

import gc
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import click

from medical.cli import GARBAGE
from medical.cli.announce import Announcer
from medical.cli.database import provided
from medical.cli.explain import REFUSALS, explains
from medical.config import ConfigurationError, Mode, Settings
from medical.platform.logging import configure, get_logger, log_crashes
from medical.platform.postgres import EmbeddedPostgres, PostgresError, usable
from medical.platform.processes import default_signals_in_children, in_child
from medical.platform.refusal import Refused
from medical.platform.server import Reservation, Server

LOOK_SECONDS = 1
LOOK_AGAIN_SECONDS = 5
UPKEEP_SECONDS = 300
"""After so long it is looked again whether anything is due."""

log = get_logger(__name__)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Its port.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
@click.option("--workers", type=click.IntRange(1), help="Web processes.  [default: 2]")
@click.option("--demo", is_flag=True, help="Make a sample clinic in an empty database; loopback only.")
@explains("start_refused")
def run(host: str, port: int, data: Path | None, workers: int | None, demo: bool) -> None:
    """Find or start PostgreSQL, migrate it, and serve the API."""
    default_signals_in_children()
    with ended_by_signals():
        settings = settled(data, workers, demo)
        configure(settings)
        log_crashes()
        log.info("starting", mode=settings.mode, host=host, port=port, data=str(settings.data))
        settings = checked(settings, host)
        reservation = Reservation(host, port)
        with provided(settings) as postgres:
            accounts = in_child(prepared, refusals=REFUSALS)
            serve(Server(host, port, settings), postgres, Announcer(host, port, settings, accounts))
        reservation.release()
    log.info("stopped")


class Ended(BaseException):
    """A signal asked the program to end while it was preparing."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP leave the block and close what it opened; further ones are ignored."""
    wanted = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else: nohup
        wanted.append(signal.SIGHUP)

    def end(number: int, _frame: FrameType | None) -> None:
        for other in wanted:
            signal.signal(other, signal.SIG_IGN)
        log.info("stopping", signal=signal.Signals(number).name)
        raise Ended

    for number in wanted:
        signal.signal(number, end)
    try:
        yield
    except Ended:
        return


def settled(data: Path | None, workers: int | None, demo: bool) -> Settings:
    """The settings with this command's options; the environment carries them to the worker processes."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    if workers:
        os.environ["WEB_WORKERS"] = str(workers)
    if demo:
        os.environ["MEDICAL_MODE"] = Mode.DEMO
    os.environ.pop("FLASK_RUN_FROM_CLI", None)  # what follows serves, so the application is strict
    settings = Settings.load()
    os.environ["MEDICAL_DATA"] = str(settings.data.expanduser().absolute())
    return Settings.load()


def checked(settings: Settings, host: str) -> Settings:
    """The settings, found safe to serve with; raises ``ConfigurationError`` before any listener opens."""
    if settings.mode is Mode.DEMO:
        if not is_loopback(host):
            problem = f"demo mode has passwords that everybody knows and does not listen at {host}: drop --host"
            raise ConfigurationError([problem])
        if not settings.secret_key:
            os.environ["SECRET_KEY"] = kept_secret(settings.data)
            settings = Settings.load()
    settings.ensure_safe()
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def kept_secret(data: Path) -> str:
    """The demo's secret, made at its first start; it opens signing keys that lie in the same folder."""
    with usable(data):
        file = data / "secret_key"
        if not file.exists():
            descriptor, draft = tempfile.mkstemp(dir=data)  # readable by its owner only
            with os.fdopen(descriptor, "w") as output:
                output.write(secrets.token_urlsafe(48))
            Path(draft).replace(file)  # whole or not at all, whenever the program is killed
        return file.read_text().strip()


def prepared() -> list[Any]:
    """The demo accounts, once the database is fit for serving; imported late, see ``application``."""
    from medical.cli.prepare import prepare

    return prepare(Settings.load())


def serve(server: Server, postgres: EmbeddedPostgres | None, announcer: Announcer) -> None:
    """Serve until told to stop, sealing the trail, with a watch on the embedded server and a word when all is ready."""
    over = threading.Event()
    helpers = [
        threading.Thread(target=announcer.run, args=(over,)),
        threading.Thread(target=seal, args=(over,)),
        threading.Thread(target=look_after, args=(over,)),
        threading.Thread(target=export, args=(over,)),
    ]
    if postgres:
        helpers.append(threading.Thread(target=watch, args=(postgres, over)))

    def begin() -> None:
        for helper in helpers:
            helper.start()

    try:
        server.run(application, begin)
    finally:
        over.set()
        for helper in helpers:
            if helper.ident:
                helper.join()


def seal(over: threading.Event) -> None:
    """Seal the trail until ``over``; imported late, with what it needs, in this thread only."""
    from medical.audit.keys import sealing_key
    from medical.audit.sealer import Sealer

    settings = Settings.load()
    Sealer(settings.sealer_url, lambda: sealing_key(settings.audit_seal_key, settings.data)).run(over)


def look_after(over: threading.Event) -> None:
    """Let diaries be kept up, each time in a process that ends again, until ``over``."""
    while not over.wait(UPKEEP_SECONDS):
        try:
            in_child(kept_up, refusals=REFUSALS)
        except Refused as error:
            log.error("upkeep_failed", reason=str(error))


def kept_up() -> None:
    """Keep diaries up; imported late, see ``application``."""
    from medical.cli.upkeep import keep_up

    keep_up(Settings.load(), quietly=True)


def export(over: threading.Event) -> None:
    """Have exports written as soon as they are asked for, each time in a process that ends again, until ``over``.

    What is asked for while nobody listens, is written when diaries are kept up.
    """
    from medical.platform.waiting import exports_asked

    for _ in exports_asked(Settings.load().database_url, over):
        try:
            in_child(exported, refusals=REFUSALS)
        except Refused as error:
            log.error("export_failed", reason=str(error))


def exported() -> None:
    """Write exports; imported late, see ``application``."""
    from medical.cli.upkeep import write_exports

    write_exports(Settings.load())


def watch(postgres: EmbeddedPostgres, over: threading.Event) -> None:
    """Start the embedded server again whenever it died, until ``over``."""
    pause = LOOK_SECONDS
    while not over.wait(pause):
        pause = LOOK_SECONDS
        try:
            if postgres.revive():
                log.warning("postgres_revived")
        except PostgresError as error:
            pause = LOOK_AGAIN_SECONDS
            log.error("postgres_lost", reason=str(error))


def application() -> Any:
    """The application, made in each worker process; this one never imports it, so that it stays small."""
    from medical.app import create_app

    made = create_app()
    gc.collect()
    gc.freeze()  # what stays for ever is looked through no more
    gc.set_threshold(*GARBAGE)
    return made
