"""Structured logs: one JSON object a line on standard output, or readable colours on a terminal.

An event is a constant name plus identifiers; patients' data never enters a log line.
"""

import logging
import sys
from typing import Any

import structlog

from medical.config import LogFormat, Settings

SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.stdlib.ExtraAdder(),
]


def log_format(settings: Settings) -> LogFormat:
    """The format asked for; where none is: readable on a terminal, JSON elsewhere."""
    return settings.log_format or (LogFormat.CONSOLE if sys.stdout.isatty() else LogFormat.JSON)


def configure(settings: Settings) -> None:
    """Send every log line of the program and its libraries to standard output in one shape."""
    if log_format(settings) is LogFormat.CONSOLE:
        renderers: list[Any] = [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    else:
        renderers = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry ``name`` and whatever the request has bound."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
