"""Signing in, staying signed in, and being signed out at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from flask import Flask

from medical.app import create_app
from medical.config import Mode
from medical.identity import passwords
from medical.identity.permissions import Role
from medical.platform.db import db
from tests.clinic import PASSWORD, Caller, Clinic
from tests.conftest import SECRET, psycopg_url


@dataclass(frozen=True)
class SignIn:
    """A pair of tokens."""

    app: Flask
    access_token: str
    refresh_token: str

    @property
    def status(self) -> int:
        """200 while the sign-in lives, 401 after."""
        return Caller(self.app, self.access_token).get("/me").status_code

    def refresh(self) -> Any:
        """The answer to a use of the refresh token."""
        return Caller(self.app).post("/auth/refresh", {"refresh_token": self.refresh_token})

    def logout(self) -> Any:
        """The answer to a logout."""
        return Caller(self.app, self.access_token).post("/auth/logout")


def pair(app: Flask, answer: Any) -> SignIn:
    """The tokens of an answer."""
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    assert (set(body), body["token_type"], body["expires_in"]) == (
        {"access_token", "refresh_token", "token_type", "expires_in"},
        "Bearer",
        600,
    )
    return SignIn(app, body["access_token"], body["refresh_token"])


@pytest.fixture
def nurse(clinic: Clinic) -> Caller:
    """Somebody with a password."""
    return clinic.user(Role.NURSE, password=PASSWORD)


@pytest.fixture
def login(app: Flask, clinic: Clinic, nurse: Caller) -> Callable[..., Any]:
    """The answer to the nurse's login, with the right email and password unless others are given."""
    email = clinic.email_of(nurse)

    def ask(**given: str) -> Any:
        return Caller(app).post("/auth/login", {"email": email, "password": PASSWORD} | given)

    return ask


@pytest.fixture
def sign_in(app: Flask, login: Callable[..., Any]) -> Callable[[], SignIn]:
    """A new sign-in of the nurse."""
    return lambda: pair(app, login())


class TestLogin:
    """Email and password become tokens."""

    def test_the_right_password_signs_in(self, sign_in: Callable[[], SignIn], nurse: Caller, app: Flask) -> None:
        """As the person whose it is, in their organisation."""
        me = Caller(app, sign_in().access_token).get("/me").get_json()
        assert (me["id"], me["roles"]) == (nurse.id, ["nurse"])

    def test_the_email_is_known_in_whatever_case(
        self, login: Callable[..., Any], clinic: Clinic, nurse: Caller
    ) -> None:
        """People write addresses as they like."""
        assert login(email=clinic.email_of(nurse).upper()).status_code == 200

    def test_every_refusal_is_the_same(
        self, login: Callable[..., Any], clinic: Clinic, nurse: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Wrong password, nobody's email, no password set, account closed: same words, same work."""
        unset = clinic.user(Role.NURSE)
        closed = clinic.user(Role.NURSE, password=PASSWORD)
        assert clinic.admin.post(f"/users/{closed.id}/deactivate").status_code == 200
        passwords.matches("warm", None)
        hasher = CountingHasher()
        monkeypatch.setattr(passwords, "hasher", hasher)
        answers, work = [], []
        for given in (
            {"password": PASSWORD + "x"},
            {"email": "nobody.at.all@example.org"},
            {"email": clinic.email_of(unset)},
            {"email": clinic.email_of(closed)},
            {"email": "no address at all"},
        ):
            hasher.verified = 0
            answer = login(**given)
            work.append(hasher.verified)
            answers.append(
                (answer.status_code, answer.get_json() | {"request_id": ""}, answer.headers["WWW-Authenticate"])
            )
        assert answers == [answers[0]] * 5
        assert (answers[0][0], answers[0][1]["code"]) == (401, "invalid_credentials")
        assert work == [1] * 5
        assert login().status_code == 200

    def test_a_refusal_stands_in_the_trail(self, login: Callable[..., Any], nurse: Caller, database_url: str) -> None:
        """With the account that it was about, if there is one."""
        login(password="wrong password, really")
        login()
        with psycopg.connect(psycopg_url(database_url)) as connection:
            rows = connection.execute(
                "SELECT action, outcome, code FROM audit_event WHERE entity_id = %s ORDER BY id", [nurse.user_id]
            ).fetchall()
        assert rows == [("session.started", "refused", "invalid_credentials"), ("session.started", "success", None)]

    def test_a_nul_in_email_or_password_is_refused(self, login: Callable[..., Any]) -> None:
        """PostgreSQL's text holds none."""
        assert login(email="a\x00@example.org").status_code == 422
        assert login(password="a\x00" * 20).status_code == 422


class TestCrowd:
    """More sign-ins at once than there is memory for."""

    def test_who_finds_no_turn_is_asked_to_come_again(
        self, login: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Known or not; and the next one goes through."""
        monkeypatch.setattr(passwords, "PATIENCE_SECONDS", 0)
        full = threading.BoundedSemaphore(1)
        monkeypatch.setattr(passwords, "AT_ONCE", full)
        with full:
            refused = [login(), login(email="nobody@example.org")]
        assert [(one.status_code, one.get_json()["code"]) for one in refused] == [(503, "unavailable")] * 2
        assert refused[0].headers["Retry-After"] == "1"
        assert login().status_code == 200


class CountingHasher:
    """argon2id that counts how often it is asked."""

    def __init__(self) -> None:
        self.verified, self.hasher = 0, passwords.hasher

    def verify(self, password_hash: str, password: str) -> bool:
        """As the real one."""
        self.verified += 1
        return self.hasher.verify(password_hash, password)

    def check_needs_rehash(self, password_hash: str) -> bool:
        """As the real one."""
        return self.hasher.check_needs_rehash(password_hash)


class TestRefresh:
    """A refresh token works once."""

    def test_gives_a_new_pair_of_the_same_sign_in(self, app: Flask, sign_in: Callable[[], SignIn]) -> None:
        """Both access tokens are good; each refresh token is another."""
        first = sign_in()
        second = pair(app, first.refresh())
        third = pair(app, second.refresh())
        assert [one.status for one in (first, second, third)] == [200, 200, 200]
        assert len({one.refresh_token for one in (first, second, third)}) == 3

    def test_a_used_one_coming_back_ends_the_sign_in(self, app: Flask, sign_in: Callable[[], SignIn]) -> None:
        """Somebody has a copy: all tokens of this sign-in are dead, and those of another live."""
        first, noise = sign_in(), sign_in()
        second = pair(app, first.refresh())
        reused = first.refresh()
        assert (reused.status_code, reused.get_json()["code"]) == (401, "refresh_token_reused")
        assert [one.status for one in (first, second, noise)] == [401, 401, 200]
        dead = second.refresh()
        assert (dead.status_code, dead.get_json()["code"]) == (401, "invalid_refresh_token")
        assert noise.refresh().status_code == 200

    @pytest.mark.parametrize("token", ["x", "AAAA", "A" * 64, "é" * 20, "=" * 64, "A" * 65])
    def test_one_that_was_never_given_is_refused(self, app: Flask, token: str) -> None:
        """Whatever it looks like."""
        answer = Caller(app).post("/auth/refresh", {"refresh_token": token})
        assert (answer.status_code, answer.get_json()["code"]) == (401, "invalid_refresh_token")
        assert "WWW-Authenticate" in answer.headers

    def test_one_with_another_organisations_id_in_it_is_refused(
        self, app: Flask, sign_in: Callable[[], SignIn], other_clinic: Clinic
    ) -> None:
        """The organisation in the token says where to look, and counts for nothing more."""
        from base64 import urlsafe_b64decode, urlsafe_b64encode

        sign = sign_in()
        secret = urlsafe_b64decode(sign.refresh_token)[16:]
        forged = urlsafe_b64encode(other_clinic.organization_id.bytes + secret).decode()
        assert Caller(app).post("/auth/refresh", {"refresh_token": forged}).status_code == 401
        assert sign.refresh().status_code == 200

    def test_one_of_a_closed_account_is_refused(
        self, sign_in: Callable[[], SignIn], clinic: Clinic, nurse: Caller
    ) -> None:
        """With the account the sign-in ended."""
        sign, noise = sign_in(), clinic.user(Role.NURSE)
        clinic.admin.post(f"/users/{nurse.id}/deactivate")
        assert sign.refresh().get_json()["code"] == "invalid_refresh_token"
        assert noise.get("/me").status_code == 200

    def test_one_of_a_sign_in_past_its_time_is_refused(
        self, sign_in: Callable[[], SignIn], nurse: Caller, database_url: str
    ) -> None:
        """Twelve hours after the login, however often it was refreshed; access tokens with it."""
        sign = sign_in()
        with psycopg.connect(psycopg_url(database_url)) as connection:
            query = "UPDATE auth_session SET expires_at = now() - interval '1 second' WHERE user_id = %s"
            connection.execute(query, [nurse.user_id])
        assert sign.refresh().get_json()["code"] == "invalid_refresh_token"
        assert sign.status == 401


class TestLogout:
    """The sign-in is over at once."""

    def test_ends_this_sign_in_and_no_other(self, app: Flask, sign_in: Callable[[], SignIn]) -> None:
        """Access and refresh tokens alike, also those of before a refresh."""
        first, noise = sign_in(), sign_in()
        second = pair(app, first.refresh())
        assert second.logout().status_code == 204
        assert [one.status for one in (first, second, noise)] == [401, 401, 200]
        assert second.refresh().status_code == 401
        assert second.logout().status_code == 401

    def test_holds_on_every_process(self, sign_in: Callable[[], SignIn], elsewhere: Flask) -> None:
        """Nothing is remembered that the database has forgotten."""
        sign = sign_in()
        there = SignIn(elsewhere, sign.access_token, sign.refresh_token)
        assert there.status == 200
        assert sign.logout().status_code == 204
        assert there.status == 401
        assert there.refresh().status_code == 401

    @pytest.fixture
    def elsewhere(self, database_url: str) -> Iterator[Flask]:
        """Another process on the same database."""
        other = create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST})
        yield other
        with other.app_context():
            db.engine.dispose()


class TestRaces:
    """Many at once."""

    @pytest.mark.parametrize("round_", range(6))
    def test_one_refresh_token_in_many_hands_works_once(
        self, app: Flask, sign_in: Callable[[], SignIn], round_: int
    ) -> None:
        """One gets a new pair, the others are told that it was used; and then the sign-in is dead for all."""
        sign, noise = sign_in(), sign_in()
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: sign.refresh(), range(12)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 11
        assert {answer.get_json()["code"] for answer in answers if answer.status_code == 401} <= {
            "refresh_token_reused",
            "invalid_refresh_token",
        }
        assert "refresh_token_reused" in {answer.get_json().get("code") for answer in answers}
        [winner] = [pair(app, answer) for answer in answers if answer.status_code == 200]
        assert (winner.status, winner.refresh().status_code, noise.status) == (401, 401, 200)

    def test_a_logout_wins_over_a_refresh_under_way(self, app: Flask, sign_in: Callable[[], SignIn]) -> None:
        """Whichever comes first: afterwards nothing of the sign-in works."""
        outcomes = set()
        for _ in range(12):
            sign = sign_in()
            with ThreadPoolExecutor(2) as pool:
                refreshed, left = pool.submit(sign.refresh), pool.submit(sign.logout)
            assert left.result().status_code == 204
            outcomes.add(refreshed.result().status_code)
            assert sign.status == 401
            if refreshed.result().status_code == 200:
                renewed = pair(app, refreshed.result())
                assert (renewed.status, renewed.refresh().status_code) == (401, 401)
        assert outcomes <= {200, 401}

    def test_a_refresh_waits_for_a_logout_under_way_and_is_refused(
        self, sign_in: Callable[[], SignIn], nurse: Caller, database_url: str
    ) -> None:
        """It does not slip past one that is not committed yet."""
        sign = sign_in()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        with psycopg.connect(psycopg_url(database_url)) as connection, ThreadPoolExecutor(1) as pool:
            connection.execute("UPDATE auth_session SET ended_at = now() WHERE user_id = %s", [nurse.user_id])
            refreshed = pool.submit(sign.refresh)
            while not refreshed.done() and connection.execute(waiting).fetchone() == (0,):
                pass
            connection.commit()
            answer = refreshed.result()
        assert (answer.status_code, answer.get_json()["code"]) == (401, "invalid_refresh_token")


class TestAccountChanges:
    """Roles and accounts are looked up on each request."""

    def test_a_change_of_roles_holds_from_the_next_request_on(self, clinic: Clinic, nurse: Caller) -> None:
        """With the same token, both ways; a colleague's roles stay."""
        noise = clinic.user(Role.NURSE)
        seen = [nurse.get("/users").status_code]
        for roles in (["nurse", "admin"], ["auditor"]):
            assert clinic.admin.put(f"/users/{nurse.id}/roles", {"roles": roles}).status_code == 200
            seen.append(nurse.get("/users").status_code)
        assert seen == [403, 200, 403]
        assert nurse.get("/me").get_json()["roles"] == ["auditor"]
        assert noise.get("/me").get_json()["roles"] == ["nurse"]

    def test_a_closed_account_is_out_at_once(
        self, clinic: Clinic, nurse: Caller, login: Callable[..., Any], sign_in: Callable[[], SignIn]
    ) -> None:
        """Every sign-in of it, and no new one; a colleague stays."""
        sign, noise = sign_in(), clinic.user(Role.NURSE)
        assert clinic.admin.post(f"/users/{nurse.id}/deactivate").status_code == 200
        assert [nurse.get("/me").status_code, sign.status, noise.get("/me").status_code] == [401, 401, 200]
        assert login().status_code == 401


class TestStorage:
    """What the database holds of secrets."""

    @pytest.mark.usefixtures("costly_hashes")
    def test_passwords_are_there_as_argon2id_only(
        self, login: Callable[..., Any], nurse: Caller, database_url: str
    ) -> None:
        """With the parameters of the OWASP cheat sheet."""
        login()
        with psycopg.connect(psycopg_url(database_url)) as connection:
            row = connection.execute("SELECT password_hash FROM users WHERE id = %s", [nurse.user_id]).fetchone()
        assert row is not None
        assert row[0].startswith("$argon2id$v=19$m=47104,t=1,p=1$")
        assert self.tables_with(database_url, PASSWORD) == []

    def test_tokens_are_not_there(self, sign_in: Callable[[], SignIn], app: Flask, database_url: str) -> None:
        """Neither as text nor as bytes: who reads the database signs in as nobody."""
        first = sign_in()
        second = pair(app, first.refresh())
        for token in (first.refresh_token, second.refresh_token, first.access_token):
            assert self.tables_with(database_url, token) == []
        assert self.tables_with(database_url, "argon2id") == ["users"], "what is there is found"

    @staticmethod
    def tables_with(database_url: str, secret: str) -> list[str]:
        """The tables in which a secret stands somewhere, as text or as bytes."""
        found = []
        with psycopg.connect(psycopg_url(database_url)) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            for (name,) in names:
                query = psycopg.sql.SQL("SELECT EXISTS (SELECT FROM {} t WHERE t::text LIKE ANY (%s))")
                patterns = [f"%{secret}%", f"%{secret.encode().hex()}%"]
                row = connection.execute(query.format(psycopg.sql.Identifier(name)), [patterns]).fetchone()
                found += [name] if row == (True,) else []
        return found


class TestMe:
    """Who I am signed in as."""

    def test_says_what_i_am_and_may(self, clinic: Clinic) -> None:
        """A clinician is told the id under which they are booked, a patient that of their record."""
        doctor = clinic.clinician()
        patient, own = clinic.patient_with_account()
        me, they = doctor.get("/me").get_json(), own.get("/me").get_json()
        assert (me["clinician_id"], me["patient_id"], me["roles"]) == (doctor.id, None, ["clinician"])
        assert (they["clinician_id"], they["patient_id"], they["roles"]) == (None, patient["id"], ["patient"])
        assert me["organization_id"] == they["organization_id"] == str(clinic.organization_id)
        assert "appointment:complete" in me["permissions"]
        assert "appointment:complete" not in they["permissions"]
        assert me["permissions"] == sorted(me["permissions"])

    def test_several_roles_allow_what_each_of_them_does(self, clinic: Clinic) -> None:
        """A user may hold more than one."""
        both = clinic.user(Role.NURSE, Role.AUDITOR).get("/me").get_json()
        nurse = clinic.user(Role.NURSE).get("/me").get_json()
        assert both["roles"] == ["auditor", "nurse"]
        assert set(both["permissions"]) >= set(nurse["permissions"])
