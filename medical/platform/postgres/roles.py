"""Roles and database inside the embedded server, made at its first start and mended at every other."""

import psycopg
from psycopg import sql

SUPERUSER = "postgres"
OWNER_LOGIN = "medical_owner"
APP_LOGIN = "medical_app"
DATABASE = "medical"

ROLES = {
    OWNER_LOGIN: "LOGIN NOSUPERUSER CREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION",
    APP_LOGIN: "LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOBYPASSRLS NOREPLICATION",
}
"""The role that owns the schema and migrates it, and the one that the web process works as."""


def provide(conninfo: str, password: str | None) -> None:
    """Make what is missing of roles and database; ``conninfo`` is the superuser's."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for name, attributes in ROLES.items():
            if name not in known:
                connection.execute(sql.SQL("CREATE ROLE {} " + attributes).format(sql.Identifier(name)))
            if name not in known and password:
                statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
                connection.execute(statement)
        if not set(ROLES) <= known:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(APP_LOGIN), sql.Identifier(OWNER_LOGIN)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER_LOGIN))
            )
