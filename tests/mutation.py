"""A plugin that takes one wall down before the tests run: `pytest -p tests.mutation --mutant NAME`.

`tools/mutants.py` runs it for each wall in turn; every one must be missed by some test. Names are
`permission METHOD /path`, `step-up METHOD /path`, `policy table.name`, `sight module.function` (a row
filter, with row-level security of sight down too, or nobody could tell) and `ensure module.function`.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import psycopg
import pytest
from flask import Flask
from psycopg import sql
from werkzeug.routing import Rule

from medical import app as factory
from medical.identity.permissions import Permission
from medical.platform import db, http, schema

RULES = (
    "medical.identity.grants._ensure_secret",
    "medical.identity.service._ensure_admin_left",
    "medical.identity.service._ensure_impersonal",
    "medical.identity.service._ensure_unchanged",
    "medical.identity.service.ensure_version",
    "medical.people.care._ensure_carer",
    "medical.people.care._ensure_delegable",
    "medical.people.proxies._ensure_may_consent",
    "medical.people.proxies._ensure_own_contact",
    "medical.people.service.ensure_location",
    "medical.scheduling.policy.ensure_can_book",
    "medical.scheduling.policy.ensure_can_edit_hours",
    "medical.scheduling.policy.ensure_can_move",
    "medical.scheduling.service._ensure_references",
)
"""Functions that refuse what a role alone does not decide."""
SIGHTS = {
    "medical.people.proxies._visible": "medical.people.models.PatientProxy",
    "medical.people.queries.visible_patients": "medical.people.models.Patient",
    "medical.scheduling.queries.visible_appointments": "medical.scheduling.models.Appointment",
}
"""The one SELECT of a noun, and the noun."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which wall."""
    parser.addoption("--mutant", default="", help="the wall to take down")


def pytest_configure(config: pytest.Config) -> None:
    """Take it down before anything is imported by tests."""
    kind, _, name = config.getoption("--mutant").partition(" ")
    if kind:
        DOWN[kind](name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the table of routes, what is about the route; comparing it with declarations would be no test."""
    kind, _, route = config.getoption("--mutant").partition(" ")
    if kind in ("permission", "step-up"):
        items[:] = [item for item in items if (f" {route}]" in item.name or f"[{route}]" in item.name)]


def named(path: str) -> tuple[ModuleType, str]:
    """The module and the name in it."""
    module, _, name = path.rpartition(".")
    return import_module(module), name


def route_of(rule: Rule, method: str) -> str:
    """A route as the tests write it."""
    path = re.sub(r"<(?:[^<>]*?:)?(\w+)>", r"{\1}", rule.rule)
    return f"{method} {path}"


def change_declaration(route: str, field: str, value: Any) -> None:
    """Let the application be made with another declaration of one route."""
    ensure = http.ensure_declared

    def changed(app: Flask) -> None:
        ensure(app)
        found = [one for rule, method, one in http.declared_routes(app) if route_of(rule, method) == route]
        assert len(found) == 1, f"there is no route {route!r}"
        object.__setattr__(found[0], field, value)  # frozen for everybody else

    factory.http.ensure_declared = changed  # type: ignore[attr-defined]  # the factory's module of that name


def after_migration(change: Callable[[psycopg.Connection[Any]], None]) -> None:
    """Let every test database be changed once it is migrated."""
    migrate = schema.migrate

    def migrated(url: str, *rest: Any, **options: Any) -> Any:
        result = migrate(url, *rest, **options)
        with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1)) as connection:
            change(connection)
        return result

    schema.migrate = migrated


def loosen(condition: str, connection: psycopg.Connection[Any]) -> None:
    """Let the policies that ``condition`` finds hold for every row."""
    query = f"SELECT tablename, policyname, qual, with_check FROM pg_policies WHERE {condition}"  # noqa: S608 - ours
    rows = connection.execute(query).fetchall()  # type: ignore[call-overload]  # a literal of this module
    assert rows, f"there is no policy where {condition}"
    for table, policy, using, check in rows:
        statement = sql.SQL("ALTER POLICY {} ON {}").format(sql.Identifier(policy), sql.Identifier(table))
        statement += sql.SQL(" USING (true)") if using else sql.SQL("")
        statement += sql.SQL(" WITH CHECK (true)") if check else sql.SQL("")
        connection.execute(statement)


def loosen_policy(name: str) -> None:
    """One policy."""
    table, _, policy = name.partition(".")
    after_migration(partial(loosen, f"tablename = '{table}' AND policyname = '{policy}'"))


def loosen_sight(path: str) -> None:
    """The row filter in code shows the organisation's rows, and so does the database."""
    from sqlalchemy import select

    if path != "none":
        module, function = named(path)
        holder, noun = named(SIGHTS[path])
        setattr(module, function, lambda *_args, **_options: select(getattr(holder, noun)))
    after_migration(partial(loosen, "policyname = 'sight'"))


def allow(path: str) -> None:
    """A rule refuses nothing."""
    module, function = named(path)
    assert callable(getattr(module, function))
    setattr(module, function, lambda *_args, **_options: None)


def narrow_nothing(_name: str) -> None:
    """The SELECTs of the ORM ask for no organisation: row-level security alone keeps them apart."""
    from sqlalchemy.event import remove

    remove(db.db.session, "do_orm_execute", db._narrow)


DOWN: dict[str, Callable[[str], None]] = {
    "permission": partial(change_declaration, field="permission", value=str(Permission.SESSION_OWN)),
    "step-up": partial(change_declaration, field="step_up", value=False),
    "policy": loosen_policy,
    "sight": loosen_sight,
    "ensure": allow,
    "narrow": narrow_nothing,
}


def mutants(app: Flask, policies: list[tuple[str, str]]) -> Iterator[str]:
    """The name of every wall of the program."""
    for rule, method, declaration in http.declared_routes(app):
        if declaration.permission not in (None, Permission.SESSION_OWN):
            yield f"permission {route_of(rule, method)}"
        if declaration.step_up:
            yield f"step-up {route_of(rule, method)}"
    yield from (f"policy {table}.{policy}" for table, policy in policies)
    yield from (f"sight {path}" for path in SIGHTS)
    yield from (f"ensure {path}" for path in RULES)
