"""Structured logs: one JSON object a line on standard output, or readable colours on a terminal.

An event is a constant name plus identifiers; patients' data never enters a log line. The messages of exceptions
may quote them (PostgreSQL's do), so of an exception only its kind and its way through the code are written.
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from medical.config import LogFormat, Settings

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
"""What could end a line, colour a terminal, or show text in another order than it has."""


def way_of(error: BaseException) -> str:
    """The kinds of ``error`` and of what led to it, each with its way through the code, and no message of any."""
    links: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        state = getattr(link, "sqlstate", None)
        kind = f"{type(link).__module__}.{type(link).__qualname__}" + (f" (SQLSTATE {state})" if state else "")
        links.append("".join(traceback.format_tb(link.__traceback__)) + kind)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\nwhich came of\n".join(links)


def _tell_way(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the exception of a line by its way."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    if isinstance(error, BaseException):
        event["exception"] = way_of(error)
    event.pop("stack_info", None)
    return event


SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.stdlib.ExtraAdder(),
    _tell_way,
]


class Printer(logging.StreamHandler[Any]):
    """Writes lines to standard output; of one that cannot be written it says only that there was one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; libraries like to put exceptions into it, of which it names the kind."""
        if isinstance(record.args, tuple):
            record.args = tuple(type(one).__name__ if isinstance(one, BaseException) else one for one in record.args)
        return super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say so, without the values that logging itself would print."""
        error = sys.exc_info()[1]
        line = f'{{"event": "line_lost", "level": "error", "logger": "logging", "error": "{type(error).__name__}"}}'
        sys.stderr.write(line + "\n")


def log_format(settings: Settings) -> LogFormat:
    """The format asked for; where none is: readable on a terminal, JSON elsewhere."""
    return settings.log_format or (LogFormat.CONSOLE if sys.stdout.isatty() else LogFormat.JSON)


def configure(settings: Settings) -> None:
    """Send every log line of the program and its libraries to standard output in one shape."""
    if log_format(settings) is LogFormat.CONSOLE:
        renderers: list[Any] = [_escape, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    else:
        renderers = [structlog.processors.JSONRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = Printer(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    logging.getLogger("authlib").setLevel(logging.WARNING)  # else it quotes what it is asked
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def log_crashes() -> None:
    """From here on log what nobody catches, where Python would print it with its message."""
    sys.excepthook = _crashed
    threading.excepthook = lambda crash: _crashed(crash.exc_type, crash.exc_value, crash.exc_traceback)
    sys.unraisablehook = lambda ignored: _crashed(ignored.exc_type, ignored.exc_value, ignored.exc_traceback)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry ``name`` and whatever the request has bound."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write control characters as JSON would; the way of an exception may have lines."""
    for name, value in event.items():
        if name != "exception":
            text = value if isinstance(value, str) else repr(value)
            event[name] = CONTROL.sub(_as_json, text) if CONTROL.search(text) else value
    return event


def _as_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _crashed(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Log what nobody caught; an interrupt is the user's and shown as ever."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    get_logger(__name__).critical("uncaught_error", error=kind.__name__, exc_info=error)
