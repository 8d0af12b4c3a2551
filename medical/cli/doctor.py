"""``medical doctor``: what is wrong with this installation, how to mend it, and where a command belongs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medical.cli.explain import explains
from medical.cli.side import Side, side

if TYPE_CHECKING:
    from medical.cli.checks import Finding

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}

COMMANDS = {
    Side.HOST: """\
This is the host. Here belong:
  podman logs medical-api                           what the API says
  podman exec -it medical-api flask db current      a flask command inside the API's container
  podman exec -it medical-db psql -U medical_owner medical
  medical …, python -m medical …                    the same without containers, from .venv""",
    Side.CONTAINER: """\
This is a container. Here belong:
  flask db current, flask db upgrade, medical doctor
podman and compose commands belong on the host: leave with `exit` first.""",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the database.  [default: data]")
@click.option("--port", default=8000, show_default=True, type=int, help="Where the API listens.")
@explains("command_failed")
def doctor(data: Path | None, port: int) -> None:
    """Check this installation and say how to mend what is wrong; exit code 1 when something is."""
    from medical.cli.checks import Installation, Level, all_findings

    if data:
        os.environ["MEDICAL_DATA"] = str(data)
    findings = list(all_findings(Installation(side(), port)))
    for finding in findings:
        click.echo(_line(finding))
    click.echo()
    click.echo(COMMANDS[side()])
    failures = sum(finding.level is Level.FAIL for finding in findings)
    if failures:
        click.echo(f"\n{failures} of {len(findings)} checks failed.")
        sys.exit(1)


def _line(finding: "Finding") -> str:
    mend = f"\n      mend: {finding.mend}" if finding.mend else ""
    return f"{MARKS[finding.level]}  {finding.name}: {finding.said}{mend}"
