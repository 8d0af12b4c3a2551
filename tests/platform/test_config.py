"""Settings: each is read, each bad value is named, and unsafe ones refuse to start."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from medical.app import create_app
from medical.config import ConfigurationError, LogFormat, Mode, Settings, secret_problems

GOOD = "4Zk2vQx8Lr6Wt1Ns9Ub3Hd7Jf5Pg0Yma"


def problems_of(**environ: str) -> list[str]:
    """What is wrong with an environment."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.load(environ=environ)
    return refused.value.problems


class TestLoad:
    """Settings come from the environment."""

    def test_an_empty_environment_gives_safe_defaults(self) -> None:
        """Strict, with the embedded server, and with no secret."""
        settings = Settings.load(environ={})
        assert (settings.mode, settings.secret_key, settings.debug) == (Mode.PRODUCTION, "", False)
        assert (settings.data, settings.owner_url) == (Path("data"), "")

    def test_an_empty_value_is_an_absent_one(self) -> None:
        """A compose file sets what it does not know to nothing."""
        assert Settings.load(environ={"MEDICAL_MODE": " ", "WEB_WORKERS": ""}) == Settings.load(environ={})

    @pytest.mark.parametrize(
        ("name", "raw", "field", "value"),
        [
            ("MEDICAL_MODE", "Development", "mode", Mode.DEVELOPMENT),
            ("SECRET_KEY", GOOD, "secret_key", GOOD),
            ("DATABASE_URL", "postgresql://u:p@h:5432/d", "database_url", "postgresql://u:p@h:5432/d"),
            ("DATABASE_URL", "postgres://u@h/d", "database_url", "postgres://u@h/d"),
            ("MIGRATION_DATABASE_URL", "postgresql+psycopg://o@h/d", "owner_url", "postgresql+psycopg://o@h/d"),
            ("MEDICAL_DATA", "/var/lib/medical", "data", Path("/var/lib/medical")),
            ("DATABASE_WAIT_SECONDS", "5", "database_wait_seconds", 5),
            ("DATABASE_POOL_SIZE", "3", "database_pool_size", 3),
            ("WEB_WORKERS", "4", "workers", 4),
            (
                "TRUSTED_PROXIES",
                "10.0.0.1, fd00::/8",
                "trusted_proxies",
                (ip_network("10.0.0.1"), ip_network("fd00::/8")),
            ),
            (
                "ALLOWED_HOSTS",
                "Api.example.org,b,[::1]",
                "allowed_hosts",
                ("api.example.org", "b", "[::1]"),
            ),
            ("LOG_FORMAT", "JSON", "log_format", LogFormat.JSON),
            ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
            ("FLASK_DEBUG", "yes", "debug", True),
            ("FLASK_DEBUG", "off", "debug", False),
        ],
    )
    def test_a_value_is_read_with_its_type(self, name: str, raw: str, field: str, value: object) -> None:
        """Case does not matter for words of ours."""
        assert getattr(Settings.load(environ={name: raw}), field) == value

    @pytest.mark.parametrize(
        ("name", "raw", "expected"),
        [
            ("MEDICAL_MODE", "prod", "one of production, development, demo, test"),
            ("DATABASE_URL", "sqlite:///x.db", "postgresql://user:password@host:port/database"),
            ("DATABASE_URL", "localhost", "postgresql://user:password@host:port/database"),
            ("DATABASE_URL", "postgresql://[bad", "postgresql://user:password@host:port/database"),
            ("MIGRATION_DATABASE_URL", "mysql://h/d", "postgresql://user:password@host:port/database"),
            ("DATABASE_WAIT_SECONDS", "soon", "a whole number of at least 1"),
            ("DATABASE_POOL_SIZE", "0", "a whole number of at least 1"),
            ("DATABASE_POOL_SIZE", "-1", "a whole number of at least 1"),
            ("WEB_WORKERS", "1.5", "a whole number of at least 1"),
            ("TRUSTED_PROXIES", "10.0.0.1/8", "networks like 10.0.0.0/8, separated by commas"),
            ("TRUSTED_PROXIES", "proxy.example", "networks like 10.0.0.0/8, separated by commas"),
            (
                "ALLOWED_HOSTS",
                "https://api.example.org",
                "names like api.example.org, without scheme and port, separated by commas",
            ),
            (
                "ALLOWED_HOSTS",
                "api.example.org:443",
                "names like api.example.org, without scheme and port, separated by commas",
            ),
            ("ALLOWED_HOSTS", "*", "names like api.example.org, without scheme and port, separated by commas"),
            ("LOG_FORMAT", "xml", "one of json, console"),
            ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
            ("FLASK_DEBUG", "maybe", "1 or 0"),
        ],
    )
    def test_a_bad_value_is_named_with_what_was_expected(self, name: str, raw: str, expected: str) -> None:
        """Whoever set it reads what to set instead."""
        assert problems_of(**{name: raw}) == [f"{name} is {raw!r}: expected {expected}"]

    def test_a_password_in_a_bad_address_is_not_repeated(self) -> None:
        """The last line of a start that failed goes into logs; the rest helps to find the mistake."""
        [problem] = problems_of(DATABASE_URL="postgressql://medical:hunter2@db:5432/medical")
        assert "hunter2" not in problem
        assert "@db:5432/medical" in problem

    def test_every_bad_value_is_named_at_once(self) -> None:
        """Nobody wants to find them one start after the other."""
        found = problems_of(MEDICAL_MODE="prod", WEB_WORKERS="many", LOG_LEVEL="LOUD", FLASK_DEBUG="0")
        assert [problem.split()[0] for problem in found] == ["MEDICAL_MODE", "WEB_WORKERS", "LOG_LEVEL"]

    def test_overrides_win_and_are_known(self) -> None:
        """A bad value that is overridden does not matter; an override of nothing is a mistake."""
        assert Settings.load({"workers": 1}, {"WEB_WORKERS": "many"}).workers == 1
        with pytest.raises(ConfigurationError, match="there is no setting 'colour'"):
            Settings.load({"colour": "red"}, {})

    def test_every_setting_has_a_name_and_a_meaning(self) -> None:
        """The table in the documentation is made of them."""
        names = [item.metadata["name"] for item in fields(Settings)]
        assert len(set(names)) == len(names)
        assert all(len(item.metadata["meaning"]) > 20 for item in fields(Settings))


class TestSecret:
    """SECRET_KEY, without which a sign-in would half succeed."""

    @pytest.mark.parametrize(
        ("secret", "reason"),
        [
            ("", "is not set"),
            ("   ", "is not set"),
            ("short", "is shorter than 32 characters"),
            (GOOD[:31], "is shorter than 32 characters"),
            (None, "must be text, not NoneType"),
            (12345, "must be text, not int"),
            (GOOD.encode(), "must be text, not bytes"),
            ("x" * 40, "is a sample value"),
            ("change-me-change-me-change-me-change-me", "is a sample value"),
            ("your_secret_key_goes_here_1234567890", "is a sample value"),
            ("example-0123456789-abcdefghijklmnop", "is a sample value"),
        ],
    )
    def test_one_that_protects_nothing_refuses_to_start(self, secret: Any, reason: str) -> None:
        """With the command that makes a good one; and a good one starts."""
        with pytest.raises(ConfigurationError) as refused:
            create_app({"secret_key": secret, "mode": Mode.TEST})
        [problem] = refused.value.problems
        assert reason in problem
        assert "medical init-env" in problem
        assert secret_problems(GOOD) == []

    def test_the_refusal_does_not_repeat_it(self) -> None:
        """A start's last line goes into logs."""
        with pytest.raises(ConfigurationError) as refused:
            create_app({"secret_key": GOOD[:31], "mode": Mode.TEST})
        assert GOOD[:31] not in str(refused.value)


class TestDebug:
    """Flask's debug mode, which shows the inside."""

    def test_is_refused_in_production_alone(self) -> None:
        """Together with everything else that is wrong."""
        with pytest.raises(ConfigurationError) as refused:
            Settings(debug=True, secret_key="").ensure_safe()
        assert [problem.split()[0] for problem in refused.value.problems] == ["SECRET_KEY", "FLASK_DEBUG"]
        Settings(debug=True, secret_key=GOOD, mode=Mode.DEVELOPMENT).ensure_safe()
        Settings(debug=False, secret_key=GOOD).ensure_safe()
