"""How a command fails: one sentence that says what is wrong and how to mend it, and exit code 1."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn

import click

from medical.config import ConfigurationError, LogFormat, Settings
from medical.platform.errors import AppError
from medical.platform.logging import configure, get_logger, log_format
from medical.platform.refusal import Refused

REFUSALS = (ConfigurationError, Refused, AppError, OSError)
"""Errors whose text is fit for whoever runs the program."""

log = get_logger(__name__)


@contextmanager
def explained(event: str) -> Iterator[None]:
    """End the program with ``event`` and its reason as the last line when the block fails."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except REFUSALS as error:
        refuse(event, str(error))
    except Exception as error:
        configure(_settings())
        log.critical("unexpected_error", error=type(error).__name__, exc_info=error)
        refuse(event, f"unexpected {type(error).__name__}: the line above says where")


def explains(event: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for a whole command."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with explained(event):
                return command(*args, **kwargs)

        return wrapper

    return decorate


def refuse(event: str, reason: str) -> NoReturn:
    """Write the last line: a log line among log lines, plain text for a person; and end with exit code 1."""
    settings = _settings()
    if log_format(settings) is LogFormat.CONSOLE:
        click.secho(f"Error: {reason}", fg="red", err=True)
    else:
        configure(settings)
        log.error(event, reason=reason)
    sys.exit(1)


def _settings() -> Settings:
    """The settings, or the defaults where they are what is wrong."""
    try:
        return Settings.load()
    except ConfigurationError:
        return Settings()
