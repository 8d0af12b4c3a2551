"""``medical create-admin``: the first account of a clinic."""

import os
from pathlib import Path

import click

from medical.cli.database import provided
from medical.cli.explain import explains
from medical.config import Settings
from medical.platform.errors import AppError
from medical.platform.logging import configure, get_logger, log_crashes
from medical.platform.refusal import Refused

PASSWORD = "MEDICAL_ADMIN_PASSWORD"  # noqa: S105  # the name of a variable

log = get_logger(__name__)


@click.command("create-admin")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
@click.option("--email", required=True, help="Address to sign in with.")
@click.option("--given-name", required=True)
@click.option("--family-name", required=True)
@click.option("--organization", required=True, help="Name of the clinic; made when it is new.")
@explains("command_failed")
def create_admin(data: Path | None, email: str, given_name: str, family_name: str, organization: str) -> None:
    """Make an administrator; the password comes from MEDICAL_ADMIN_PASSWORD or is asked for."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    configure(settings)
    log_crashes()
    password = os.environ.get(PASSWORD) or click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with provided(settings):
        _create(Settings.load(), email, password, given_name, family_name, organization)
    log.info("admin_created", organization=organization)


def _create(
    settings: Settings, email: str, password: str, given_name: str, family_name: str, organization: str
) -> None:
    from medical.app import create_app
    from medical.cli.prepare import bring_up_to_date
    from medical.identity import service
    from medical.platform.db import db
    from medical.platform.waiting import wait_for_database

    wait_for_database(settings.owner_url, settings.database_wait_seconds)
    if not bring_up_to_date(settings):
        raise Refused("the schema waits for its migration: run `medical db upgrade` first")
    with create_app().app_context():
        try:
            service.create_admin(
                organization_name=organization,
                email=email,
                password=password,
                given_name=given_name,
                family_name=family_name,
            )
        except AppError as error:
            raise Refused(_told(error)) from error
        db.session.commit()


def _told(error: AppError) -> str:
    """The refusal in one sentence, with what is wrong about each input."""
    fields = "; ".join(f"{problem.pointer.lstrip('/')}: {problem.message}" for problem in error.errors)
    return f"{error.detail.rstrip('.')} ({fields})" if fields else error.detail
