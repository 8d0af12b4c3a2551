"""``medical upkeep``: what diaries need once a day, for whoever runs it by a timer of their own."""

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
    """Keep open windows and holidays right for the days that come; `medical run` does so by itself."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    configure(settings)
    with provided(settings):
        keep_up(Settings.load())


def keep_up(settings: Settings) -> int:
    """How many organisations were looked after; imported late, so that `medical --help` stays quick."""
    from medical.app import create_app
    from medical.platform.waiting import wait_for_database
    from medical.scheduling.upkeep import run

    configure(settings)
    wait_for_database(settings.database_url, settings.database_wait_seconds)
    with create_app().app_context():
        organizations = run()
    log.info("diaries_kept_up", organizations=organizations)
    return organizations
