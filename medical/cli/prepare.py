"""What happens between the database's answer and the first listener: schema, roles, keys, demo data."""

from typing import Any

from medical.config import Mode, Settings
from medical.platform import schema
from medical.platform.logging import configure, get_logger
from medical.platform.logins import ensure_restricted, login_of
from medical.platform.waiting import wait_for_database

log = get_logger(__name__)


def prepare(settings: Settings) -> list[Any]:
    """Make the database fit for serving; the demo accounts, where this start or an earlier one made some.

    Raises ``Refused`` for what cannot be served on. A schema that waits for a migration which this program's
    role may not do is no reason to stop: ``/health/ready`` names it until it is done.
    """
    configure(settings)
    wait_for_database(settings.owner_url, settings.database_wait_seconds)
    current = bring_up_to_date(settings)
    if settings.mode is Mode.PRODUCTION:
        ensure_restricted(settings.database_url)
    from medical.app import create_app
    from medical.identity import keys
    from medical.records import service as records

    with create_app().app_context():
        log.info("application_built", mode=settings.mode)
        if not current:
            return []
        keys.ensure_ring(settings)
        accounts = _demo_accounts(settings)
        records.catch_up()
        return accounts


def bring_up_to_date(settings: Settings) -> bool:
    """Migrate where this program's role may; whether the schema is what the program needs afterwards.

    Raises ``SchemaNewer`` or ``SchemaError``.
    """
    found, wanted = schema.revisions(settings.owner_url)
    schema.ensure_known(found)
    if found != wanted and not login_of(settings.owner_url).may_migrate:
        schema.warn_behind(found, wanted)
        return False
    schema.migrate(settings.owner_url)
    return True


def _demo_accounts(settings: Settings) -> list[Any]:
    """The demo's accounts in demo mode; in production a database that has them is refused."""
    from medical.cli import demo

    if settings.mode is Mode.PRODUCTION:
        demo.ensure_absent()
    return list(demo.seed_if_empty()) if settings.mode is Mode.DEMO else []
