"""``medical upkeep``: what is to be done behind the requests, for whoever runs it by a timer of their own."""

import os
from pathlib import Path

import click

from medical.cli.database import provided
from medical.cli.explain import explains
from medical.config import Settings
from medical.platform.logging import configure, get_logger

log = get_logger(__name__)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
@explains("command_failed")
def upkeep(data: Path | None) -> None:
    """Open the days that come, pass lapsed offers on, write exports that wait; `medical run` does so by itself."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    configure(settings)
    with provided(settings):
        keep_up(Settings.load(), quietly=False)


def keep_up(settings: Settings, *, quietly: bool) -> None:
    """Look after every organisation, and log it, ``quietly`` only if anything was done.

    Imports late, so that `medical --help` stays quick.
    """
    from medical.app import create_app
    from medical.platform.waiting import wait_for_database
    from medical.records import bulk
    from medical.scheduling.upkeep import run

    configure(settings)
    wait_for_database(settings.database_url, settings.database_wait_seconds)
    with create_app().app_context():
        done, exported = run(), bulk.run()
    if any(done) or not quietly:
        log.info("diaries_kept_up", organizations=done.organizations, offers=done.offers)
    if exported:
        log.info("exports_written", exports=exported)


def write_exports(settings: Settings) -> None:
    """Write the exports that wait; see ``keep_up``."""
    from medical.app import create_app
    from medical.records import bulk

    configure(settings)
    with create_app().app_context():
        exported = bulk.run()
    log.info("exports_written", exports=exported)
