"""What documents say of the code is so."""

import re
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SECURITY = (PROJECT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", SECURITY)))


def test_the_table_of_permissions_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tools/access_matrix.py` prints it."""
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    from access_matrix import matrix

    shown = SECURITY.partition("<!-- matrix -->\n")[2].partition("\n<!-- /matrix -->")[0]
    assert shown == matrix()
    sys.modules.pop("access_matrix")


def test_the_table_of_records_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tools/records_table.py` prints it."""
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    from records_table import table

    document = (PROJECT / "docs/records.md").read_text()
    assert document.partition("<!-- table -->\n")[2].partition("\n<!-- /table -->")[0] == table()
    sys.modules.pop("records_table")


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_keeps_a_promise_is_there(name: str) -> None:
    """Each file, class and function that docs/security.md names."""
    path, *parts = name.split("::")
    source = (PROJECT / path).read_text()
    for part in parts:
        assert re.search(rf"^\s*(?:class|def) {part}\b", source, re.MULTILINE), f"{part} is not in {path}"


def test_it_names_many() -> None:
    """The names are found at all."""
    assert len(NAMED) > 50
