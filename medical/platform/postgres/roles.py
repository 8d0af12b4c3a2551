"""Roles and database inside the embedded server, made at its first start and mended at every other.

Written for ``psql``, which comes with the server: the process that supervises it stays small without a driver.
"""

from medical.platform.postgres import binaries

SUPERUSER = "postgres"
OWNER_LOGIN = "medical_owner"
APP_LOGIN = "medical_app"
DATABASE = "medical"

SCRIPT = f"""
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOBYPASSRLS NOREPLICATION %s', name, more)
  FROM (VALUES ('{OWNER_LOGIN}', 'CREATEROLE'), ('{APP_LOGIN}', 'NOCREATEROLE')) AS role (name, more)
 WHERE name NOT IN (SELECT rolname FROM pg_roles) \\gexec
SELECT 'GRANT {APP_LOGIN} TO {OWNER_LOGIN}'
 WHERE NOT pg_has_role('{OWNER_LOGIN}', '{APP_LOGIN}', 'MEMBER') \\gexec
SELECT 'CREATE DATABASE {DATABASE} OWNER {OWNER_LOGIN}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec
ALTER ROLE {OWNER_LOGIN} SET log_min_messages = fatal;
ALTER ROLE {APP_LOGIN} SET log_min_messages = fatal;
"""  # noqa: S608  # made of the constants above
"""The role that owns the schema and migrates it, the one that the web process works as, and their database.

Their errors are the program's to log: PostgreSQL's messages quote values (`invalid input syntax for type date: …`).
"""

PASSWORDS = f"""
ALTER ROLE {OWNER_LOGIN} PASSWORD :'secret';
ALTER ROLE {APP_LOGIN} PASSWORD :'secret';
"""


def provide(conninfo: str, secret: str | None) -> None:
    """Make what is missing; ``conninfo`` is the superuser's. Raises ``PostgresError``."""
    command = [binaries.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
    if secret:
        binaries.run([*command, "-v", f"secret={secret}"], account=None, text=SCRIPT + PASSWORDS)
    else:
        binaries.run(command, account=None, text=SCRIPT)
