"""INP-02: no SQL is made while a request is at work, so nothing of a request can get into its text."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

OF_COMMANDS = {"platform/tenancy.py", "audit/archive.py"}
"""Run by migrations and a command alone, with names of tables that stand there, and of months."""
OF_READY = "self.sql"
"""Of `platform.db.Ready`: made by SQLAlchemy of a statement of models, whose values are parameters."""
SENDS = {"execute", "scalars", "scalar", "stream", "exec_driver_sql"}
MAKES = {"text", "literal_column", "DDL", "TextClause", "exec_driver_sql", "prefix_with", "suffix_with", "with_hint"}


def made_while_running(source: str) -> Iterator[int]:
    """The lines of functions where SQL is put together, or made of something other than a constant of the module."""
    tree = ast.parse(source)
    made = [name.id for node in tree.body if isinstance(node, ast.Assign) for name in _targets(node)]
    imported = [one.name for node in tree.body if isinstance(node, ast.ImportFrom) for one in node.names]
    constants = {name for name in (*made, *imported) if name.isupper()}
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    for call in {node for function in functions for node in ast.walk(function) if isinstance(node, ast.Call)}:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = call.args[0] if call.args else call.keywords[0].value if call.keywords else None
        made = name in MAKES and given is not None and not _is_constant(given, constants)
        if made or (name in SENDS and _is_put_together(given)):
            yield call.lineno


def _targets(node: ast.Assign) -> Iterator[ast.Name]:
    for target in node.targets:
        yield from (one for one in ast.walk(target) if isinstance(one, ast.Name))


def _is_constant(given: ast.expr, constants: set[str]) -> bool:
    """Of this module, or of another that is named; one of two of them too."""
    if isinstance(given, ast.IfExp):
        return _is_constant(given.body, constants) and _is_constant(given.orelse, constants)
    if isinstance(given, ast.Attribute):
        return isinstance(given.value, ast.Name) and (given.attr.isupper() or ast.unparse(given) == OF_READY)
    return isinstance(given, ast.Constant) or (isinstance(given, ast.Name) and given.id in constants)


def _is_put_together(given: ast.expr | None) -> bool:
    """Whether it is an f-string, a sum, a %-format, or a string's ``format`` or ``join``."""
    formats = isinstance(given, ast.Call) and getattr(given.func, "attr", "") in ("format", "join")
    return formats or isinstance(given, ast.JoinedStr | ast.BinOp)


def test_is_made_of_constants_alone(project: Path) -> None:
    """What a module puts together when it is imported knows of no request."""
    package = project / "medical"
    found = {
        f"{name}:{line}"
        for file in sorted(package.rglob("*.py"))
        if (name := file.relative_to(package).as_posix()) not in OF_COMMANDS
        for line in made_while_running(file.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "statement",
    [
        'text(f"SELECT {name}")',
        'text("SELECT " + name)',
        'text("SELECT %s" % name)',
        'text("SELECT {}".format(name))',
        "text(name)",
        "text(text=name)",
        "sqlalchemy.text(name)",
        "literal_column(name)",
        "query.prefix_with(name)",
        'connection.exec_driver_sql("SELECT " + name)',
        "connection.exec_driver_sql(name)",
        'connection.execute(f"SELECT {name}")',
        'connection.execute("SELECT " + name, [1])',
        "connection.execute(' '.join(names))",
        "connection.exec_driver_sql(FIND if name else name)",
        "connection.exec_driver_sql(self.name)",
    ],
)
def test_is_missed_when_it_is_not(statement: str) -> None:
    """Each way of getting a value into the text of a statement."""
    assert [*made_while_running(f"def find(name):\n    return {statement}")] == [2]


@pytest.mark.parametrize(
    "source",
    [
        'FIND = text(f"SELECT {COLUMNS}")\ndef find():\n    session.execute(FIND)',
        'def find():\n    session.execute(text("SELECT 1"))',
        'SQL = "SELECT 1"\ndef find():\n    session.execute(text(SQL))',
        "from queries import FIND\ndef find():\n    connection.exec_driver_sql(FIND)",
        "def find(held):\n    connection.exec_driver_sql(queries.HELD if held else queries.FOUND)",
        "def find(name):\n    session.execute(select(User).where(User.name == name))",
    ],
)
def test_may_be_made_by_the_module(source: str) -> None:
    """Of its own constants, and of what SQLAlchemy binds."""
    assert [*made_while_running(source)] == []
