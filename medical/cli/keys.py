"""``medical keys``: the ring of keys that sign access tokens."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medical.cli.database import provided
from medical.cli.explain import explains
from medical.config import Settings
from medical.platform.logging import configure, get_logger
from medical.platform.refusal import Refused

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = get_logger(__name__)

data_option = click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")


@click.group("keys")
def keys() -> None:
    """Show and change the keys that sign access tokens."""


@keys.command("list")
@data_option
@explains("command_failed")
def list_keys(data: Path | None) -> None:
    """Show id, status and time of making of each key; never a private half."""
    with _owner(data) as engine, engine.connect() as connection:
        from medical.identity import rotation
        from medical.platform import clock

        for row in rotation.ring(connection, clock.now()):
            click.echo(f"{row.id}  {row.status:7}  {row.created_at:%Y-%m-%dT%H:%M:%SZ}")


@keys.command("rotate")
@data_option
@click.option("--now", "at_once", is_flag=True, help="Somebody else has a key: every access token fails at once.")
@explains("command_failed")
def rotate(data: Path | None, at_once: bool) -> None:
    """Let another key sign; what the old one signed is good until it expires. Nothing is restarted."""
    with _owner(data) as engine:
        done = _replace(engine) if at_once else _rotate(engine)
    log.info(done)


def _rotate(engine: "Engine") -> str:
    """Wait, if need be, until every process knows the next key, and let it sign; what happened."""
    from medical.identity import rotation
    from medical.identity.keys import KeyRing
    from medical.platform import clock

    ring = KeyRing(Settings.load().secret_key)
    with engine.begin() as connection:
        active = next((row.id for row in rotation.ring(connection, clock.now()) if row.status == "active"), None)
        may_sign_at = rotation.publish(connection, ring, clock.now())
    pause = (may_sign_at - clock.now()).total_seconds()
    if pause > 0:
        log.info("key_published", seconds_to_wait=round(pause))
        time.sleep(pause)
    with engine.begin() as connection:
        done = rotation.rotate(connection, ring, clock.now(), instead_of=active)
    return "keys_rotated" if done else "keys_rotated_by_another"


def _replace(engine: "Engine") -> str:
    """Put new keys in the place of all there are; what happened."""
    from medical.identity import rotation
    from medical.identity.keys import KeyRing
    from medical.platform import clock

    with engine.begin() as connection:
        rotation.replace(connection, KeyRing(Settings.load().secret_key), clock.now())
    return "keys_replaced"


@contextmanager
def _owner(data: Path | None) -> Iterator["Engine"]:
    """The database as the role that owns it, with the schema of this program; beside a running program too."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    from medical.app import create_app
    from medical.cli.prepare import bring_up_to_date
    from medical.platform.db import sqlalchemy_url
    from medical.platform.logins import login_of
    from medical.platform.waiting import wait_for_database

    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    settings.ensure_safe()
    configure(settings)
    with provided(settings):
        url = Settings.load().owner_url
        wait_for_database(url, settings.database_wait_seconds)
        if not login_of(url).may_migrate:
            raise Refused(
                "keys are changed by the role that owns the schema, not by the web process's:"
                " set MIGRATION_DATABASE_URL for this command"
            )
        bring_up_to_date(Settings.load())
        with create_app().app_context():
            yield create_engine(sqlalchemy_url(url), poolclass=NullPool)
