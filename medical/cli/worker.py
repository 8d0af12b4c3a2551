"""``medical worker``: what goes on behind the requests, where the web processes are not allowed to do it."""

import os
import threading
from contextlib import nullcontext
from pathlib import Path

import click

from medical.cli.database import provided
from medical.cli.explain import explains
from medical.cli.run import ended_by_signals
from medical.config import Settings
from medical.platform.logging import configure, get_logger

log = get_logger(__name__)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
@explains("worker_failed")
def worker(data: Path | None) -> None:
    """Seal the trail until told to stop; of several one works, the others wait."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    configure(settings)
    with ended_by_signals(), nullcontext() if settings.sealer_database_url else provided(settings):
        _seal(Settings.load())
    log.info("stopped")


def _seal(settings: Settings) -> None:
    from medical.audit.keys import sealing_key
    from medical.audit.sealer import Sealer
    from medical.platform.waiting import wait_for_database

    key = sealing_key(settings.audit_seal_key, settings.data)
    wait_for_database(settings.sealer_url, settings.database_wait_seconds)
    Sealer(settings.sealer_url, lambda: key).run(threading.Event())
