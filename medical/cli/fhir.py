"""``medical fhir``: records taken in from files of other systems, and written to files for them."""

import gc
import gzip
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medical.cli import GARBAGE
from medical.cli.database import provided
from medical.cli.explain import explains
from medical.config import Settings
from medical.platform.errors import AppError
from medical.platform.logging import configure, get_logger

if TYPE_CHECKING:
    from medical.platform.authz import Actor
    from medical.records.importing import Refusal, Tally

log = get_logger(__name__)

data_option = click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
organization_option = click.option("--organization", help="Name of the clinic.  [default: the only one there is]")
FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
LATER = "nothing_matches"
"""What is refused for a reference to what another file may bring."""


@click.group("fhir")
def fhir() -> None:
    """Take records in from files, and write them to files."""


@fhir.command("import")
@click.argument("files", nargs=-1, required=True, type=FILE)
@data_option
@organization_option
@click.option("--jobs", type=click.IntRange(1, 32), help="Processes at work.  [default: one for each processor]")
@click.option("--again", is_flag=True, help="Also files that were taken in before.")
@explains("command_failed")
def take_in(
    files: tuple[Path, ...], data: Path | None, organization: str | None, jobs: int | None, again: bool
) -> None:
    """Take in FILES: Bundles (.json) and lines of resources (.ndjson), also with .gz.

    A transaction goes in as a whole or not at all; of everything else, what is wrong is told and the rest is kept.
    What was interrupted goes on where it was when the same command is given again. Ends with 1 where anything
    was refused.
    """
    with _ready(data):
        refused = _import([*dict.fromkeys(files)], organization, jobs or os.cpu_count() or 1, again)
        _analyze(Settings.load())
    if refused:
        sys.exit(1)


@fhir.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@data_option
@organization_option
@click.option("--type", "types", multiple=True, help="Only resources of this type; can be given several times.")
@click.option("--gzip", "compressed", is_flag=True, help="Compress the files.")
@explains("command_failed")
def write_out(
    folder: Path, data: Path | None, organization: str | None, types: tuple[str, ...], compressed: bool
) -> None:
    """Write all records to FOLDER, lines of resources in a file for each type, as `medical fhir import` reads them."""
    with _ready(data), _working(organization) as actor:
        from medical.platform.db import db
        from medical.records import exporting

        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        for type_name in exporting.types_of(types):
            path = folder / f"{type_name}.ndjson{'.gz' if compressed else ''}"
            with gzip.open(path, "wb") if compressed else path.open("wb") as file:
                for body in exporting.bodies_of(actor, type_name):
                    file.write(body.encode() + b"\n")
                    count += 1
        exporting.note()
        db.session.commit()
    log.info("records_exported", folder=str(folder), resources=count)


@contextmanager
def _ready(data: Path | None) -> Iterator[None]:
    """Inside the block the database runs, and has the tables that the program needs."""
    from medical.cli.prepare import bring_up_to_date
    from medical.platform.refusal import Refused
    from medical.platform.waiting import wait_for_database

    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    configure(Settings.load())
    with provided(Settings.load()):
        settings = Settings.load()
        wait_for_database(settings.owner_url, settings.database_wait_seconds)
        if not bring_up_to_date(settings):
            raise Refused("the schema waits for its migration: run `medical db upgrade` first")
        yield


@cache
def _application() -> Any:
    from medical.app import create_app

    return create_app()


@contextmanager
def _working(organization: str | None) -> Iterator["Actor"]:
    """Inside the block, the program itself works for the organisation."""
    from medical.cli.organization import entered
    from medical.platform.db import db, enter
    from medical.records.programs import program_of

    with _application().app_context():
        try:
            yield program_of(entered(organization))
        finally:
            db.session.rollback()
            enter(None)


def _import(files: Sequence[Path], organization: str | None, jobs: int, again: bool) -> int:
    """Take the files in; how many entries were refused.

    What waits for another file is tried again at the end.
    """
    from medical.fhir.files import rank

    ranked = groupby(sorted(files, key=rank), rank)
    results: dict[Path, Tally | None] = {}
    with (
        _processes(min(jobs, len(files))) as pool,
        click.progressbar(length=_size(files), label="Taking records in", file=sys.stderr) as bar,
    ):
        for some in [sorted(group, key=_largest_first) for _, group in ranked]:
            results |= _imported(some, organization, again, bar.update, pool)
        waiting = [path for path, tally in results.items() if tally and _waits(tally)]
        results |= _imported(waiting, organization, again, lambda _: None, pool)
    done = [tally for tally in results.values() if tally]
    for path, tally in results.items():
        for one in tally.refused if tally else ():
            _tell(path, one)
    refused = sum(len(tally.refused) for tally in done)
    log.info(
        "records_imported",
        files=len(done),
        before=len(files) - len(done),
        resources=sum(tally.kept for tally in done),
        unchanged=sum(tally.unchanged for tally in done),
        refused=refused,
    )
    return refused


def _analyze(settings: Settings) -> None:
    """Let PostgreSQL count what there is now: its plans of before would be slow until it does so by itself."""
    from sqlalchemy import create_engine, text

    engine = create_engine(settings.owner_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ANALYZE patient, resource, resource_value"))
    engine.dispose()


def _size(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _waits(tally: "Tally") -> bool:
    return any(one.code == LATER for one in tally.refused)


def _tell(path: Path, refusal: "Refusal") -> None:
    log.warning(
        "entry_refused",
        file=path.name,
        entry=refusal.number,
        resource=refusal.resource,
        code=refusal.code,
        problems=refusal.problems,
    )


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor | None]:
    """So many to work beside this one; none where this one is enough."""
    if jobs <= 1:
        yield None
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), gc.set_threshold, GARBAGE) as pool:
        yield pool


def _largest_first(path: Path) -> int:
    return -path.stat().st_size


def _imported(
    files: Sequence[Path],
    organization: str | None,
    again: bool,
    tell: Callable[[int], Any],
    pool: ProcessPoolExecutor | None,
) -> Iterator[tuple[Path, "Tally | None"]]:
    """Each file with what came of it, None for those that were taken in before; ``tell`` hears of bytes."""
    if pool is None:
        for path in files:
            yield path, _import_one(path, organization, again, tell)
        return
    at_work = {pool.submit(_import_one, path, organization, again): path for path in files}
    for ended in as_completed(at_work):
        tell(at_work[ended].stat().st_size)
        yield at_work[ended], ended.result()


def _import_one(
    path: Path, organization: str | None, again: bool, tell: Callable[[int], Any] = lambda _: None
) -> "Tally | None":
    from medical.fhir import files
    from medical.records.importing import Refusal, Tally

    size, told = path.stat().st_size, 0

    def hear(share: float) -> None:
        nonlocal told
        tell(round(size * share) - told)
        told = round(size * share)

    with _working(organization) as actor:
        try:
            return files.take_in(actor, path, again=again, tell=hear)
        except AppError as refusal:
            return Tally(refused=(Refusal(0, "", refusal.code, [refusal.detail]),))
