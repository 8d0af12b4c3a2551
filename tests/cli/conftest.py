"""What the tests of the command line share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that a server of another user may be reached in."""
    with folder() as place:
        yield place
