"""HDR-04: forwarded headers count only from proxies that the operator named, hosts only when named."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any

import psycopg
import pytest
from flask import Flask

from medical.app import create_app
from medical.config import Mode
from medical.identity.permissions import Role
from medical.platform.db import db
from medical.platform.proxies import TrustedProxies
from tests.clinic import API, PASSWORD, Clinic
from tests.conftest import SECRET, psycopg_url

PROXIES = ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")


def seen(
    peer: str, forwarded: str | None = None, scheme: str | None = None, proxies: Sequence[str] = PROXIES
) -> tuple[str, str]:
    """Address and scheme that the application sees."""
    found: dict[str, Any] = {}

    def application(environ: dict[str, Any], _start: Any) -> list[bytes]:
        found.update(environ)
        return []

    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    if scheme is not None:
        environ["HTTP_X_FORWARDED_PROTO"] = scheme
    TrustedProxies(application, [ip_network(one) for one in proxies])(environ, None)
    return found["REMOTE_ADDR"], found["wsgi.url_scheme"]


class TestCaller:
    """Whose address a request has."""

    @pytest.mark.parametrize(
        ("peer", "forwarded", "caller"),
        [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.2.3.4, 198.51.100.1, 192.0.2.7 ,10.9.9.9", "198.51.100.1"),
            ("10.0.0.1", "10.3.3.3,10.2.2.2", "10.3.3.3"),
            ("10.0.0.1", None, "10.0.0.1"),
            ("fd00::1", "2001:DB8::0:1", "2001:db8::1"),
            ("fd00::1", "198.51.100.1,fd00::2", "198.51.100.1"),
            ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
            ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ],
    )
    def test_is_the_nearest_address_that_is_no_proxy(self, peer: str, forwarded: str | None, caller: str) -> None:
        """Left of it stands what the caller wrote."""
        assert seen(peer, forwarded)[0] == caller

    @pytest.mark.parametrize(
        "garbage",
        ["", " ", ",", "unknown", "198.51.100.1,", "198.51.100.1:80", "[2001:db8::1]", "1.2.3", "fe80::1%\x1b[31m",
         "fe80::1%eth0", "'; DROP TABLE", "1" * 5000, "198.51.100.1, _hidden", "٣.٣.٣.٣"],
    )  # fmt: skip
    def test_is_the_proxy_when_the_header_is_garbage(self, garbage: str) -> None:
        """Better too near than made up."""
        assert seen("10.0.0.1", garbage) == ("10.0.0.1", "http")

    def test_is_the_peer_where_no_proxy_is_named(self) -> None:
        """The default: a neighbour on this machine is not believed either."""
        assert seen("127.0.0.1", "198.51.100.1", "https", proxies=()) == ("127.0.0.1", "http")

    def test_stays_when_the_server_knows_no_address(self) -> None:
        """As on a socket in the file system."""
        assert seen("", "198.51.100.1", "https") == ("", "http")

    @pytest.mark.parametrize(
        ("peer", "given", "scheme"),
        [("10.0.0.1", "https", "https"), ("10.0.0.1", " HTTPS ", "https"), ("10.0.0.1", "ftp", "http"),
         ("10.0.0.1", "https,http", "http"), ("203.0.113.9", "https", "http")],
    )  # fmt: skip
    def test_came_by_the_scheme_that_a_proxy_says(self, peer: str, given: str, scheme: str) -> None:
        """Nobody else."""
        assert seen(peer, scheme=given)[1] == scheme


@pytest.fixture(scope="module")
def behind(database_url: str, app: Flask) -> Iterator[Flask]:
    """The application behind proxies, under names of its own."""
    settings = {
        "trusted_proxies": tuple(ip_network(one) for one in PROXIES),
        "allowed_hosts": ("api.example.org", "127.0.0.1", "[::1]"),
    }
    flask_app = create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST} | settings)
    yield flask_app
    with flask_app.app_context():
        db.engine.dispose()


class TestTrail:
    """What stands in the trail as the source."""

    @pytest.mark.parametrize(
        ("peer", "source"), [("203.0.113.9", "203.0.113.9"), ("10.0.0.1", "198.51.100.1"), ("fd00::1", "198.51.100.1")]
    )
    def test_is_the_caller_and_not_what_a_stranger_writes(
        self, behind: Flask, clinic: Clinic, database_url: str, peer: str, source: str
    ) -> None:
        """A failed sign-in, seen from an untrusted and from a trusted peer."""
        email = clinic.email_of(clinic.user(Role.NURSE, password=PASSWORD))
        answer = behind.test_client().post(
            f"{API}/auth/login",
            json={"email": email, "password": "wrong for sure"},
            headers={"X-Forwarded-For": "1.2.3.4, 198.51.100.1", "X-Request-ID": f"of {peer}".replace(" ", "-"),
                     "Host": "api.example.org", "Forwarded": "for=1.2.3.4", "X-Real-IP": "1.2.3.4"},
            environ_base={"REMOTE_ADDR": peer},
        )  # fmt: skip
        assert answer.status_code == 401
        with psycopg.connect(psycopg_url(database_url)) as connection:
            connection.execute("SET row_security = off")
            rows = connection.execute(
                "SELECT host(source::inet) FROM audit_event WHERE organization_id = %s", [clinic.organization_id]
            ).fetchall()
        assert rows == [(source,)]


class TestHost:
    """The name under which the server was called."""

    @pytest.mark.parametrize(
        "host",
        ["api.example.org", "API.example.org", "api.example.org:8443", "127.0.0.1:8000", "[::1]:1"],
    )
    def test_is_served_when_it_is_named(self, behind: Flask, host: str) -> None:
        """With any port, in any case."""
        assert behind.test_client().get("/health/live", headers={"Host": host}).status_code == 200

    @pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", f"{API}/me", "/nowhere"])
    @pytest.mark.parametrize(
        "host",
        ["", "evil.example", "api.example.org.evil.example", "xapi.example.org", "api.example.org@evil.example",
         "api.example.org,evil.example", "a b", "[::2]", "localhost"],
    )  # fmt: skip
    def test_is_refused_when_it_is_not(self, behind: Flask, host: str, path: str) -> None:
        """On every route, known or not, and by no word about which would do."""
        answer = behind.test_client().get(path, headers={"Host": host, "X-Forwarded-Host": "api.example.org"})
        assert (answer.status_code, answer.get_json()["code"]) == (400, "host_not_allowed")
        assert "example" not in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_may_be_any_where_none_is_named(self, app: Flask) -> None:
        """The default: nothing in an answer is made from it."""
        answer = app.test_client().get("/api/openapi.json", headers={"Host": "evil.example"})
        assert answer.status_code == 200
        assert "evil.example" not in answer.text + str(answer.headers)
