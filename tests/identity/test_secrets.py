"""Races for refresh tokens (TOK-05, TOK-06), and what of secrets stands in the database (TOK-07)."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from psycopg import sql

from medical.app import create_app
from medical.config import Mode
from medical.identity import sessions, tokens
from medical.identity.errors import InvalidRefreshToken, RefreshTokenReused
from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.db import Scope, db, enter, scoped
from tests.clinic import PASSWORD, Caller, Clinic, second_factor
from tests.conftest import SECRET, psycopg_url

TOKENS, RACERS = 200, 16


@pytest.fixture
def apps(app: Flask, database_url: str) -> Iterator[tuple[Flask, Flask]]:
    """Two processes, as it were, on the same database."""
    other = create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST})
    yield app, other
    with other.app_context():
        db.engine.dispose()


@pytest.fixture
def started(app: Flask, clinic: Clinic) -> list[sessions.Started]:
    """Two hundred sign-ins."""
    nurse = clinic.user(Role.NURSE)
    with app.app_context(), scoped(Scope(clinic.organization_id)):
        made = [sessions.start(clinic.organization_id, UUID(nurse.id), clock.now()) for _ in range(TOKENS)]
        db.session.commit()
    return made


def use(app: Flask, token: str) -> str:
    """Use a refresh token as the route does; the successor, or why there is none."""
    with app.app_context():
        try:
            successor = sessions.rotate(token, clock.now(), None).refresh_token
            db.session.commit()
        except RefreshTokenReused as refusal:
            db.session.commit()
            return refusal.code
        except InvalidRefreshToken as refusal:
            db.session.rollback()
            return refusal.code
        finally:
            enter(None)
        return successor


def leave(app: Flask, started: sessions.Started) -> None:
    """End a sign-in as the logout does."""
    with app.app_context(), scoped(Scope(started.organization_id, started.user_id)):
        sessions.end(started.session_id, clock.now(), "logout")
        db.session.commit()


REFUSALS = {"refresh_token_reused", "invalid_refresh_token"}


def test_of_parallel_uses_of_each_of_200_tokens_exactly_one_succeeds(
    apps: tuple[Flask, Flask], started: list[sessions.Started]
) -> None:
    """TOK-06; and as a token was used twice, its successor is dead (TOK-05)."""
    with ThreadPoolExecutor(RACERS) as pool:
        for one in started:
            uses = [pool.submit(use, apps[number % 2], one.refresh_token) for number in range(RACERS)]
            answers = [racer.result() for racer in uses]
            [successor] = [answer for answer in answers if answer not in REFUSALS]
            assert "refresh_token_reused" in answers
            assert use(apps[0], successor) == "invalid_refresh_token"


def test_of_200_refreshes_against_a_logout_no_usable_one_survives(
    apps: tuple[Flask, Flask], started: list[sessions.Started]
) -> None:
    """TOK-06: revoking wins, whichever comes first."""
    outcomes: Counter[str] = Counter()
    with ThreadPoolExecutor(2) as pool:
        for number, one in enumerate(started):
            first, second = (partial(use, apps[0], one.refresh_token), partial(leave, apps[1], one))
            acts = [pool.submit(act) for act in ((first, second) if number % 2 else (second, first))]
            answers = [act.result() for act in acts]
            [refreshed] = [answer for answer in answers if answer is not None]
            outcomes["refused" if refreshed in REFUSALS else "refreshed"] += 1
            assert use(apps[0], one.refresh_token) in REFUSALS
            if refreshed not in REFUSALS:
                assert use(apps[0], refreshed) == "invalid_refresh_token"
            claims = tokens.Claims(one.user_id, one.session_id, one.organization_id)
            with apps[0].app_context():
                token = tokens.issue(apps[0].extensions["key_ring"], claims, clock.now())
            if not number % 20:
                assert Caller(apps[0], token).get("/me").status_code == 401
    assert sum(outcomes.values()) == TOKENS


def dump(database_url: str) -> bytes:
    """Every row of every table, as the owner copies it."""
    copied = []
    with psycopg.connect(psycopg_url(database_url)) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (name,) in names:
            query = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(name))
            with connection.cursor().copy(query) as copy:
                copied += [bytes(block) for block in copy]
    return b"".join(copied)


def test_no_secret_is_in_a_full_dump(app: Flask, clinic: Clinic, database_url: str) -> None:
    """TOK-07: refresh and access token, password, recovery code, secret of the second factor; as text or bytes."""
    nurse = clinic.user(Role.NURSE, password=PASSWORD)
    totp, codes = second_factor(nurse)
    body = {"email": clinic.email_of(nurse), "password": PASSWORD, "otp": totp.at(clock.now())}
    pair = Caller(app).post("/auth/login", body).get_json()
    newer = Caller(app).post("/auth/refresh", {"refresh_token": pair["refresh_token"]}).get_json()
    secrets = [PASSWORD, totp.secret, *codes, *(code.replace("-", "") for code in codes)]
    secrets += [one[name] for one in (pair, newer) for name in ("access_token", "refresh_token")]
    found = dump(database_url)
    for secret in secrets:
        for form in (secret.encode(), secret.encode().hex().encode(), secret.lower().encode()):
            assert form not in found
    assert totp.byte_secret().hex().encode() not in found
    assert clinic.email_of(nurse).encode() in found, "what is there is found"
