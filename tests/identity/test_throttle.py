"""How often somebody may guess, and that nobody keeps the owner out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask

from medical.identity import passwords, throttle
from medical.identity.permissions import Role
from medical.platform import clock
from tests.clinic import PASSWORD, Caller, Clinic
from tests.conftest import psycopg_url

WRONG = "certainly not what it is"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stops the clock of the program; a call moves it on by seconds."""
    present = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: present[0])

    def move(seconds: float) -> None:
        present[0] += timedelta(seconds=seconds)

    return move


@pytest.fixture
def login(app: Flask, database_url: str) -> Callable[..., Any]:
    """The answer to a login from an address; whatever earlier tests counted is forgotten."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")

    def ask(email: str, password: str = WRONG, source: str = "198.51.100.7") -> Any:
        body = {"email": email, "password": password}
        return app.test_client().post("/api/v1/auth/login", json=body, environ_base={"REMOTE_ADDR": source})

    return ask


@pytest.fixture
def email(clinic: Clinic) -> str:
    """The address of somebody with a password."""
    return clinic.email_of(clinic.user(Role.NURSE, password=PASSWORD))


def statuses(answers: list[Any]) -> set[int]:
    """The statuses of answers."""
    return {answer.status_code for answer in answers}


class TestGuessing:
    """AUTH-05."""

    def test_of_two_hundred_parallel_guesses_ten_are_judged(
        self,
        email: str,
        login: Callable[..., Any],
        later: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The others are told when to come again; then the owner's right password works."""
        judged: list[str] = []
        matches = passwords.matches

        def count(password: str, password_hash: str | None) -> bool:
            judged.append(password)
            return matches(password, password_hash)

        monkeypatch.setattr(passwords, "matches", count)
        monkeypatch.setattr(passwords, "PATIENCE_SECONDS", 30)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: login(email), range(200)))
        assert len(judged) == throttle.ACCOUNT.free
        assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 190
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert (refused.get_json()["code"], refused.headers["Retry-After"]) == ("too_many_attempts", "1")
        later(1)
        assert login(email, PASSWORD).status_code == 200

    def test_the_delay_doubles_and_ends_at_a_quarter_of_an_hour(
        self, email: str, login: Callable[..., Any], later: Callable[[float], None]
    ) -> None:
        """However many were wrong, the next try is never further away."""
        assert statuses([login(email) for _ in range(10)]) == {401}
        waits = []
        for _ in range(14):
            refused = login(email)
            assert refused.status_code == 429
            waits.append(int(refused.headers["Retry-After"]))
            later(waits[-1])
            assert login(email).status_code == 401
        assert waits[:4] == [1, 2, 4, 8]
        assert waits[-1] == throttle.LONGEST_DELAY_SECONDS

    def test_an_unknown_email_is_throttled_alike(
        self, email: str, login: Callable[..., Any], later: Callable[[float], None]
    ) -> None:
        """AUTH-04: status, body and headers tell nothing."""

        def seen(address: str) -> list[Any]:
            answers = [login(address) for _ in range(12)]
            kept = [dict(answer.headers) | {"X-Request-ID": ""} for answer in answers]
            bodies = [answer.get_json() | {"request_id": ""} for answer in answers]
            lengths = [{name: value for name, value in one.items() if name != "Content-Length"} for one in kept]
            return [(a.status_code, b, h) for a, b, h in zip(answers, bodies, lengths, strict=True)]

        assert seen(email) == seen(f"nobody{uuid4().hex}@example.org")

    def test_a_source_that_guesses_at_many_accounts_is_slowed_down(
        self, email: str, login: Callable[..., Any], later: Callable[[float], None]
    ) -> None:
        """And another source is not."""
        answers = [login(f"{number}.{uuid4().hex}@example.org") for number in range(51)]
        assert [answer.status_code for answer in answers] == [401] * 50 + [429]
        assert login(email, PASSWORD, source="198.51.100.250").status_code == 429, "the same network"
        assert login(email, PASSWORD, source="203.0.113.9").status_code == 200
        later(60)
        assert login(email, PASSWORD).status_code == 200

    def test_a_source_cannot_pass_for_another(
        self, app: Flask, email: str, login: Callable[..., Any], later: Callable[[float], None]
    ) -> None:
        """HDR-04: where no proxy is trusted, an address that a caller writes is not theirs."""

        def forged() -> Any:
            number = next(numbers)
            address = f"192.0.{number}.1"
            headers = {"X-Forwarded-For": address, "X-Real-IP": address, "Forwarded": f"for={address}"}
            body = {"email": f"{number}.{uuid4().hex}@example.org", "password": WRONG}
            peer = {"REMOTE_ADDR": "198.51.100.7"}
            return app.test_client().post("/api/v1/auth/login", json=body, headers=headers, environ_base=peer)

        numbers = iter(range(51))
        assert [forged().status_code for _ in range(51)] == [401] * 50 + [429]
        assert login(email, PASSWORD).status_code == 429

    def test_a_success_forgets_the_failures(self, email: str, login: Callable[..., Any]) -> None:
        """Who mistypes now and then is never stopped, nor a network where many sign in."""
        for _ in range(3):
            assert statuses([login(email) for _ in range(9)]) == {401}
            assert login(email, PASSWORD).status_code == 200


class TestOwner:
    """A stranger's failures."""

    def test_do_not_keep_the_owner_out_of_a_network_they_signed_in_from(
        self, email: str, login: Callable[..., Any], later: Callable[[float], None]
    ) -> None:
        """The stranger waits, the owner does not; and the owner's sign-in gives the stranger nothing."""
        assert login(email, PASSWORD, source="2001:db8:1::1").status_code == 200
        assert [login(email).status_code for _ in range(11)] == [401] * 10 + [429]
        assert login(email, PASSWORD, source="2001:db8:1::2").status_code == 200
        assert login(email).status_code == 429

    def test_old_rows_are_swept(
        self, email: str, login: Callable[..., Any], later: Callable[[float], None], database_url: str
    ) -> None:
        """By the tries that follow; and no row tells whose it is."""
        login(email, PASSWORD)
        login("somebody.else@example.org")
        later(100 * 24 * 3600)
        login("a.third@example.org")
        with psycopg.connect(psycopg_url(database_url)) as connection:
            rows = connection.execute("SELECT t::text FROM sign_in_throttle t").fetchall()
        assert len(rows) == 2
        assert "third" not in str(rows)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        (None, "none"),
        ("unix socket", "unix socket"),
    ],
)
def test_a_source_is_a_network(address: str | None, network: str) -> None:
    """So that a household's or a clinic's addresses count as one."""
    assert throttle.network_of(address) == network


def test_a_login_costs_two_statements_of_it(app: Flask, email: str, login: Callable[..., Any], statements: Any) -> None:
    """One before the password, one after."""
    statements.clear()
    assert login(email, PASSWORD).status_code == 200
    assert sum("sign_in_throttle" in sent for sent in statements.sent) == 2
    assert Caller(app).get("/health/live").status_code == 200
