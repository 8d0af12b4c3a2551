"""The command line: ``medical …``, which is Flask's own group of commands on our application."""

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask.cli import FlaskGroup

GARBAGE = (10_000, 20, 20)
"""So many new objects before garbage is looked for; a page of appointments alone makes thousands, none in a circle."""


def create_app() -> Any:
    """The application, for the commands that need one; imported late so that the others stay quick."""
    from medical.app import create_app

    return create_app()


def group() -> "FlaskGroup":
    """All commands: ours, Flask's, and Flask-Migrate's ``db``."""
    from flask.cli import FlaskGroup

    from medical.cli.admin import create_admin
    from medical.cli.audit import audit
    from medical.cli.doctor import doctor
    from medical.cli.environment import init_env
    from medical.cli.fhir import fhir
    from medical.cli.keys import keys
    from medical.cli.run import run
    from medical.cli.upkeep import upkeep
    from medical.cli.worker import worker

    commands = FlaskGroup(name="medical", help="Medical Backend.", create_app=create_app)
    for command in (run, worker, upkeep, create_admin, audit, keys, fhir, doctor, init_env):
        commands.add_command(command)
    return commands


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code.

    What takes time to import is imported here, where Ctrl-C is an end and not a traceback.
    """
    gc.set_threshold(*GARBAGE)
    try:
        from medical.cli.explain import explained

        with explained("command_failed"):
            sys.exit(group().main(prog_name="medical"))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # what is left goes with the process: to look through it first takes longer than many a command
