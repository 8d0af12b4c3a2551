"""The data folder, and what may be wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medical.platform.postgres.errors import PostgresError


@contextmanager
def usable(data: Path) -> Iterator[None]:
    """Make the folder where it is missing; what fails in the block around it is ``PostgresError``."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        mend = "choose another with --data, or run as the user that it belongs to"
        raise PostgresError(f"the data folder {data} cannot be used ({reason}): {mend}") from error
