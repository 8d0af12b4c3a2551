"""How Alembic reaches the database, for `flask db …` and for `medical.platform.schema.migrate`.

Migrations run as the role that owns the schema; one program at a time, the others wait for its advisory lock;
each in a transaction of its own; and with little patience for locks, because a migration that queues behind a
long transaction holds up every request that comes after it.
"""

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from alembic import context
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import write_hooks
from flask import current_app
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from medical.config import Settings
from medical.platform.db import Base, sqlalchemy_url
from medical.platform.logging import get_logger
from medical.platform.postgres import EmbeddedPostgres
from medical.platform.waiting import wait_for_database

ADVISORY_LOCK = 0x6D656469636C  # "medicl"
TURN = "10min"
LOCK = "5s"
STATEMENT = "15min"

log = get_logger("medical.migrations")
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def owner_url(stack: ExitStack) -> str:
    """Where to connect; without a URL that is the embedded server, started for the while if need be."""
    if given := context.config.attributes.get("owner_url"):
        return str(given)
    settings: Settings = current_app.extensions["settings"]
    if settings.owner_url:
        return settings.owner_url
    return stack.enter_context(EmbeddedPostgres(settings.data)).owner_url


def take_turn(connection: Connection) -> None:
    """Wait until no other program migrates this database; the lock goes with the connection."""
    connection.execute(text(f"SET lock_timeout = '{TURN}'"))
    if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        log.info("migration_waiting", reason="another program migrates")
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT}'"))
    connection.commit()


def number(_context: MigrationContext, _revision: object, directives: list[MigrationScript]) -> None:
    """Number the new revision after the last one; make none where nothing changed."""
    if not directives:
        return
    script = directives[0]
    upgrade = script.upgrade_ops
    if getattr(context.config.cmd_opts, "autogenerate", False) and upgrade is not None and upgrade.is_empty():
        directives[:] = []
        log.info("revision_empty", reason="the models and the database agree")
        return
    names = [revision.revision for revision in context.script.walk_revisions()]
    last = max((int(name) for name in names if name.isdecimal()), default=0)
    script.rev_id = f"{last + 1:04d}"


@write_hooks.register("finish")
def finish(file: str, _options: object) -> None:
    """Note the new head, and give both files to the folder's owner: in a container root writes for a user."""
    versions = Path(file).parent
    head = versions.parent / ".current-head"
    head.write_text(Path(file).stem + "\n")
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = versions.stat()
        for new in (Path(file), head):
            os.chown(new, owner.st_uid, owner.st_gid)


def applied(step: MigrationInfo, **_rest: object) -> None:
    """Log each migration as it is applied."""
    log.info("migration_applied", revision=step.up_revision_id, direction="up" if step.is_upgrade else "down")


def run_online() -> None:
    """Run the command against the database."""
    with ExitStack() as stack:
        url = owner_url(stack)
        settings = Settings.load()
        wait_for_database(url, settings.database_wait_seconds)
        engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
        connection = stack.enter_context(engine.connect())
        take_turn(connection)
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            process_revision_directives=number,
            on_version_apply=applied,
            transaction_per_migration=True,
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
