"""``medical audit …``: proving the trail, carrying proof of it outside, and keeping it bounded."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medical.cli.database import provided
from medical.cli.explain import explains
from medical.config import Settings
from medical.platform.logging import configure, get_logger
from medical.platform.refusal import Refused

if TYPE_CHECKING:
    from medical.audit.verifier import Report

OUT = click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write; never an old one.")
KEYS = click.option("--public-key", "keys", multiple=True, help="A key that may have signed, in hexadecimal digits.")
DATA = click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

log = get_logger(__name__)


@click.group()
def audit() -> None:
    """Prove the trail of who did what, and keep it."""


@audit.command()
@DATA
@click.option("--dump", type=FILE, help="An exported trail, instead of the database.")
@click.option("--checkpoint", "checkpoints", type=FILE, multiple=True, help="What the trail was at some time.")
@click.option("--archive", "archives", type=FILE, multiple=True, help="Months that were archived.")
@KEYS
@explains("command_failed")
def verify(
    data: Path | None,
    dump: Path | None,
    checkpoints: tuple[Path, ...],
    archives: tuple[Path, ...],
    keys: tuple[str, ...],
) -> None:
    """Say whether the trail is whole, or what is not and where; exit code 1 if it is not."""
    from medical.audit.verifier import Verification, read_lines

    known = [_checkpoint(file) for file in checkpoints]
    verification = Verification(keys, known, [read_lines(file) for file in archives])
    with _records(data, dump) as records:
        problems = 0
        for problem in verification.problems(records):
            problems += 1
            click.echo(str(problem))
    click.echo(_summary(verification.report, problems))
    if not keys and verification.report.keys:
        said = ", ".join(sorted(verification.report.keys))
        click.echo(f"Signed by {said}: compare with `medical audit key`, or give --public-key.")
    sys.exit(1 if problems else 0)


@audit.command("export")
@DATA
@OUT
@explains("command_failed")
def export_trail(data: Path | None, out: Path) -> None:
    """Write the whole trail as lines of JSON, with what was searched for: personal data."""
    from medical.audit import export
    from medical.audit.archive import private

    with _settings(data) as settings, export.snapshot(settings.owner_url) as connection, private(out) as output:
        for line in export.dump(connection):
            output.write(f"{line}\n".encode())
    log.info("trail_exported", file=str(out))


@audit.command()
@DATA
@OUT
@explains("command_failed")
def checkpoint(data: Path | None, out: Path) -> None:
    """Write the last seal: signed, small, without personal data; to be kept outside."""
    from medical.audit import export
    from medical.audit.archive import private

    with _settings(data) as settings, export.snapshot(settings.owner_url) as connection:
        last = export.last_seal(connection)
    if last is None:
        raise Refused("nothing is sealed yet: `medical run` and `medical worker` do so")
    with private(out) as output:
        output.write(f"{last}\n".encode())
    log.info("checkpoint_written", file=str(out), position=json.loads(last)["last_position"])


@audit.command()
@DATA
@click.option("--make", type=click.Path(path_type=Path), help="Make a new key in this file.")
@explains("command_failed")
def key(data: Path | None, make: Path | None) -> None:
    """Print the public key of the key that seals are signed with."""
    from medical.audit import keys

    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    if make:
        made = keys.make_key(make)
    elif settings.audit_seal_key or (settings.data / keys.FILE).exists():
        made = keys.sealing_key(settings.audit_seal_key, settings.data)
    else:
        raise Refused(f"there is no {keys.FILE} in {settings.data}: name the key's file in AUDIT_SEAL_KEY")
    click.echo(made.public_key().public_bytes_raw().hex())


@audit.command()
@DATA
@OUT
@click.option("--before", required=True, metavar="YYYY-MM", help="The first month that stays.")
@KEYS
@explains("command_failed")
def archive(data: Path | None, out: Path, before: str, keys: tuple[str, ...]) -> None:
    """Move whole, sealed, verified months into a file; their links stay, so that the trail can still be verified."""
    from medical.audit.archive import Archive

    with _settings(data) as settings:
        counts = Archive(settings.owner_url, _month(before)).make(out, keys)
    months = {f"{month:%Y-%m}": count for month, count in sorted(counts.items())}
    log.info("trail_archived", file=str(out), months=months)


@contextmanager
def _settings(data: Path | None) -> Iterator[Settings]:
    """The settings, inside the block with a database that runs."""
    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    settings = Settings.load()
    configure(settings)
    with nullcontext() if settings.migration_database_url else provided(settings):
        yield Settings.load()


@contextmanager
def _records(data: Path | None, dump: Path | None) -> Iterator[Iterator[dict[str, Any]]]:
    from medical.audit import export
    from medical.audit.verifier import read_lines

    if dump:
        yield read_lines(dump)
        return
    with _settings(data) as settings, export.snapshot(settings.owner_url) as connection:
        yield (json.loads(line) for line in export.dump(connection))


def _checkpoint(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
        if found["kind"] == "seal" and isinstance(found["number"], int):
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused(f"{file} is not a checkpoint: `medical audit checkpoint` writes one")


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007  # a month has no zone
    except ValueError:
        raise Refused(f"{text!r} is not a month like 2026-01") from None


def _summary(report: "Report", problems: int) -> str:
    state = "Whole" if not problems else f"NOT WHOLE, {problems} problem{'s' if problems != 1 else ''}"
    said = f"{state}: {report.links} events in {report.seals} seals, head {report.head or 'none'}"
    if report.archived:
        said += f"; {report.archived} archived and not looked at (give --archive)"
    return f"{said}; {report.waiting} wait for their seal." if report.waiting else f"{said}."
