"""Every setting of the program: its name, type, default and meaning, in one table.

Settings come from the environment only. A default exists only where it is safe in production.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MINIMUM_SECRET_LENGTH = 32
SAMPLE_SECRETS = (
    "change",
    "example",
    "sample",
    "secret-key",
    "your-",
    "your_",
    "placeholder",
    "insecure",
    "dummy",
)

ROLES = ("admin", "clinician", "nurse", "receptionist", "patient", "auditor", "service")
"""The names of roles, which a setting may name; a test holds them against `identity.permissions.Role`."""
HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")

INIT_ENV = "run `medical init-env` to write a .env file with a fresh one"


class Mode(StrEnum):
    """How strict the program is about its surroundings."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"
    DEMO = "demo"
    TEST = "test"


class LogFormat(StrEnum):
    """How log lines are written to standard output."""

    JSON = "json"
    CONSOLE = "console"


class ConfigurationError(Exception):
    """Settings that do not allow a start; ``problems`` says each one and how to put it right."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def setting(name: str, default: Any, meaning: str) -> Any:
    """A field read from the environment variable ``name``; ``meaning`` is its line in the documentation."""
    return field(default=default, metadata={"name": name, "meaning": meaning})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The program's configuration, typed and complete."""

    mode: Mode = setting(
        "MEDICAL_MODE",
        Mode.PRODUCTION,
        "`production` refuses unsafe settings; `development` allows debug mode and a superuser's database role; "
        "`demo` (what `--demo` sets) adds sample data and binds to loopback only",
    )
    secret_key: str = setting(
        "SECRET_KEY",
        "",
        f"opens the signing keys kept in the database; at least {MINIMUM_SECRET_LENGTH} characters; "
        "no default (demo mode keeps one of its own in the data folder)",
    )
    database_url: str = setting(
        "DATABASE_URL",
        "",
        "PostgreSQL 15 or newer, as the role the web process uses; empty: the embedded server in the data folder",
    )
    migration_database_url: str = setting(
        "MIGRATION_DATABASE_URL",
        "",
        "the same database as the role that owns the schema; empty: `DATABASE_URL`",
    )
    sealer_database_url: str = setting(
        "SEALER_DATABASE_URL",
        "",
        "the same database as the role that seals the trail (`medical_sealer`), for `medical worker`; "
        "empty: `MIGRATION_DATABASE_URL`, whose role takes that role on",
    )
    audit_seal_key: Path | None = setting(
        "AUDIT_SEAL_KEY",
        None,
        "file with the key that signs the trail's seals (Ed25519, PEM or 32 bytes), which web processes need not "
        "read; empty: `audit_seal_key.pem` in the data folder, made at the first start",
    )
    data: Path = setting("MEDICAL_DATA", Path("data"), "folder of the embedded server (what `--data` sets)")
    database_wait_seconds: int = setting(
        "DATABASE_WAIT_SECONDS", 60, "how long a start waits for PostgreSQL before it gives up"
    )
    database_pool_size: int = setting(
        "DATABASE_POOL_SIZE", 16, "connections, and so requests at work at once, per worker process"
    )
    workers: int = setting("WEB_WORKERS", 2, "web processes (what `--workers` sets)")
    require_otp_for: frozenset[str] | None = setting(
        "REQUIRE_OTP_FOR",
        None,
        "roles whose sign-in needs a second factor, separated by commas; set but empty: none; "
        "not set: `admin,auditor` (in demo mode none)",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        "TRUSTED_PROXIES",
        (),
        "networks of reverse proxies, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        "believed; empty: nobody's",
    )
    allowed_hosts: tuple[str, ...] = setting(
        "ALLOWED_HOSTS",
        (),
        "names that a request's `Host` may have, separated by commas; others get 400, health checks too; empty: any",
    )
    public_url: str = setting(
        "PUBLIC_URL",
        "",
        "where clients reach the program, like `https://api.example.org`: issuer of OAuth tokens and audience of "
        "signed assertions; empty: what the request says, which `ALLOWED_HOSTS` bounds",
    )
    log_format: LogFormat | None = setting(
        "LOG_FORMAT", None, "`json` or `console`; empty: `console` on a terminal, else `json`"
    )
    log_level: str = setting("LOG_LEVEL", "INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`")
    debug: bool = setting("FLASK_DEBUG", False, "Flask's debug mode; refused in production")

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> "Settings":
        """Settings from the environment, then ``overrides`` by field name.

        Raises ``ConfigurationError`` naming every value that cannot be read.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems = []
        for item in fields(cls):
            given = environ.get(item.metadata["name"])
            raw = (given or "").strip()
            absent = given is None if item.name in MAY_BE_EMPTY else not raw
            if absent or (overrides and item.name in overrides):
                continue
            try:
                values[item.name] = PARSERS[item.name](raw)
            except ValueError as error:
                problems.append(f"{item.metadata['name']} is {_without_password(raw)!r}: {error}")
        unknown = set(overrides or ()) - {item.name for item in fields(cls)}
        problems += [f"there is no setting {name!r}" for name in sorted(unknown)]
        if problems:
            raise ConfigurationError(problems)
        return cls(**values, **(overrides or {}))

    def ensure_safe(self) -> None:
        """Raise ``ConfigurationError`` naming every setting with which serving would be unsafe."""
        problems = list(secret_problems(self.secret_key))
        if self.debug and self.mode is Mode.PRODUCTION:
            problems.append("FLASK_DEBUG is on in production: unset it, or set MEDICAL_MODE=development")
        if problems:
            raise ConfigurationError(problems)

    @property
    def otp_roles(self) -> frozenset[str]:
        """The roles that demand a second factor."""
        if self.require_otp_for is not None:
            return self.require_otp_for
        return frozenset() if self.mode in (Mode.DEMO, Mode.TEST) else frozenset({"admin", "auditor"})

    @property
    def owner_url(self) -> str:
        """Where migrations connect."""
        return self.migration_database_url or self.database_url

    @property
    def sealer_url(self) -> str:
        """Where the sealer connects."""
        return self.sealer_database_url or self.owner_url


def secret_problems(secret: object) -> list[str]:
    """What is wrong with ``secret`` as a SECRET_KEY, with the mend; empty when it is fit."""
    if not isinstance(secret, str):
        return [f"SECRET_KEY must be text, not {type(secret).__name__}: {INIT_ENV}"]
    if not secret.strip():
        return [f"SECRET_KEY is not set: {INIT_ENV}"]
    if len(secret) < MINIMUM_SECRET_LENGTH:
        return [f"SECRET_KEY is shorter than {MINIMUM_SECRET_LENGTH} characters: {INIT_ENV}"]
    if len(set(secret)) < 10 or any(word in secret.lower() for word in SAMPLE_SECRETS):
        return [f"SECRET_KEY is a sample value that others know: {INIT_ENV}"]
    return []


def _without_password(raw: str) -> str:
    """``raw`` fit for logs: of what may be an address only what follows user and password."""
    _user, at, place = raw.rpartition("@")
    return f"…@{place}" if at else raw


def _url(raw: str) -> str:
    try:
        scheme = urlsplit(raw).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError("expected postgresql://user:password@host:port/database")
    return raw


def _positive(raw: str) -> int:
    if not raw.isdecimal() or int(raw) < 1:
        raise ValueError("expected a whole number of at least 1")
    return int(raw)


def _choice(choices: type[StrEnum]) -> Any:
    def parse(raw: str) -> StrEnum:
        try:
            return choices(raw.lower())
        except ValueError:
            raise ValueError(f"expected one of {', '.join(choices)}") from None

    return parse


def _networks(raw: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(word) for word in _words(raw))
    except ValueError:
        raise ValueError("expected networks like 10.0.0.0/8, separated by commas") from None


def _hosts(raw: str) -> tuple[str, ...]:
    names = tuple(word.lower() for word in _words(raw))
    if not all(HOST.fullmatch(name) for name in names):
        raise ValueError("expected names like api.example.org, without scheme and port, separated by commas")
    return names


def _public_url(raw: str) -> str:
    try:
        parts = urlsplit(raw)
        rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
        fit = parts.scheme in ("http", "https") and parts.hostname and not rest
    except ValueError:
        fit = False
    if not fit:
        raise ValueError("expected https://name or https://name:port, without a path")
    return raw.rstrip("/")


def _words(raw: str) -> list[str]:
    return [word.strip() for word in raw.split(",") if word.strip()]


def _level(raw: str) -> str:
    if raw.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("expected one of DEBUG, INFO, WARNING, ERROR")
    return raw.upper()


def _roles(raw: str) -> frozenset[str]:
    roles = frozenset(word.strip().lower() for word in raw.split(",") if word.strip())
    if roles - set(ROLES):
        raise ValueError(f"expected some of {', '.join(ROLES)}, separated by commas, or nothing")
    return roles


MAY_BE_EMPTY = frozenset({"require_otp_for"})
"""Settings for which empty is a value of its own."""


def _flag(raw: str) -> bool:
    if raw.lower() in ("1", "true", "yes", "on"):
        return True
    if raw.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("expected 1 or 0")


PARSERS: dict[str, Any] = {
    "mode": _choice(Mode),
    "secret_key": str,
    "database_url": _url,
    "migration_database_url": _url,
    "sealer_database_url": _url,
    "audit_seal_key": Path,
    "data": Path,
    "database_wait_seconds": _positive,
    "database_pool_size": _positive,
    "workers": _positive,
    "require_otp_for": _roles,
    "trusted_proxies": _networks,
    "allowed_hosts": _hosts,
    "public_url": _public_url,
    "log_format": _choice(LogFormat),
    "log_level": _level,
    "debug": _flag,
}
