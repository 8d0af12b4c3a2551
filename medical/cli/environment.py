"""``medical init-env``: a file of settings with fresh secrets."""

import os
import secrets
from pathlib import Path

import click

from medical.cli.explain import explains
from medical.platform.refusal import Refused

TEMPLATE = """\
# Settings of Medical Backend, made by `medical init-env`. Keep this file to yourself, out of version control.
# Read by `podman-compose`, and by `medical` and `flask` when started in this folder.

# Opens the signing keys kept in the database: whoever has both can sign in as anybody.
# A new one does not fit the keys that are there, and the program refuses to start with it.
SECRET_KEY={secret_key}

# How strict the program is about its surroundings: production, development.
MEDICAL_MODE=production

# Roles that must sign in with a second factor, separated by commas; empty: none.
REQUIRE_OTP_FOR=admin,auditor

# Containers: passwords that medical-db is made with. A change here does not change them in the database.
POSTGRES_PASSWORD={postgres_password}
MEDICAL_APP_PASSWORD={app_password}
MEDICAL_SEALER_PASSWORD={sealer_password}

# Without containers: a PostgreSQL of your own. Leave both out to use the embedded one in the data folder.
# The first is the role the web process works as; it must not be a superuser nor have BYPASSRLS.
# The second is the role that owns the schema and migrates it.
#DATABASE_URL=postgresql://medical_app:password@localhost:5432/medical
#MIGRATION_DATABASE_URL=postgresql://medical_owner:password@localhost:5432/medical
#MEDICAL_DATA=data

# Behind a reverse proxy: the networks it connects from, and the names it serves. The proxy must set
# X-Forwarded-For, and drop names of headers with an underscore. 127.0.0.1 is for the container's health check.
#TRUSTED_PROXIES=10.0.0.0/24
#ALLOWED_HOSTS=api.example.org,127.0.0.1

#WEB_WORKERS=2
#LOG_LEVEL=INFO
"""


@click.command("init-env")
@click.option("--output", type=click.Path(path_type=Path), default=Path(".env"), show_default=True)
@explains("command_failed")
def init_env(output: Path) -> None:
    """Write settings with fresh secrets, for containers or a production start; never over another file."""
    text = TEMPLATE.format(
        secret_key=secrets.token_urlsafe(48),
        postgres_password=secrets.token_urlsafe(24),
        app_password=secrets.token_urlsafe(24),
        sealer_password=secrets.token_urlsafe(24),
    )
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Refused(
            f"{output} exists and stays as it is (its secrets open your data): move it away, or use --output"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    click.echo(f"Wrote {output.absolute()}, readable by you alone.")
