"""The schema's revision that this program needs, known without loading Alembic (the web processes do without it)."""

from functools import cache
from pathlib import Path

MIGRATIONS = Path(__file__).parents[2] / "migrations"


@cache
def wanted_revision() -> str:
    """The last of the numbered migrations the program came with; a test holds it against Alembic's head."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
