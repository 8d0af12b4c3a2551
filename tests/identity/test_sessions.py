"""Sign-ins: listed and ended (TOK-09, TOK-10), and how long they last unused and at most (TOK-10, TOK-12)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from uuid import UUID

import jwt
import psycopg
import pytest
from flask import Flask
from sqlalchemy import select, update

from medical.identity import sessions, tokens
from medical.identity.limits import LIMITS, Limits, limits_of
from medical.identity.models import AuthSession, RefreshToken
from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.db import Scope, db, scoped
from tests.clinic import PASSWORD, Caller, Clinic, Statements
from tests.conftest import psycopg_url

MoveClock = Callable[..., None]


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> MoveClock:
    """Moves the program's clock on by so much, counted from the beginning of the test."""
    began = clock.now()

    def move(**by: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: began + timedelta(**by))

    return move


def again(app: Flask, clinic: Clinic, caller: Caller) -> Caller:
    """The caller on the same sign-in with an access token of this moment, whatever the program's clock says."""
    claims = tokens.Claims(UUID(caller.id), UUID(session_of(caller)), clinic.organization_id)
    with app.app_context():
        token = tokens.issue(app.extensions["key_ring"], claims, datetime.now(UTC))
    return Caller(app, token, caller.user_id)


def session_of(caller: Caller) -> str:
    """The id of the sign-in behind the caller's token."""
    sid: str = jwt.decode(caller.token or "", options={"verify_signature": False})["sid"]
    return sid


def last_used(app: Flask, clinic: Clinic, caller: Caller) -> datetime:
    """When the database says that the caller's sign-in was last used."""
    with app.app_context(), scoped(Scope(clinic.organization_id)):
        query = select(AuthSession.last_used_at).where(AuthSession.id == UUID(session_of(caller)))
        found = db.session.scalars(query).one()
        db.session.rollback()
    return found


def events(database_url: str, caller: Caller) -> list[str]:
    """What the trail says that the caller did."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        query = "SELECT action || ' ' || outcome FROM audit_event WHERE actor_id = %s ORDER BY occurred_at, id"
        return [one for (one,) in connection.execute(query, [caller.user_id])]


@pytest.fixture
def nurse(clinic: Clinic) -> Caller:
    """Signed in once."""
    return clinic.user(Role.NURSE)


class TestOwnSessions:
    """GET and DELETE /me/sessions."""

    def test_are_listed_newest_first_and_say_which_one_asks(self, clinic: Clinic, nurse: Caller) -> None:
        newer = clinic.signed_in(UUID(nurse.id))
        clinic.user(Role.NURSE)
        items = nurse.get("/me/sessions").get_json()["items"]
        assert [item["id"] for item in items] == [session_of(newer), session_of(nurse)]
        assert [item["current"] for item in items] == [False, True]
        expected = {"id", "created_at", "last_used_at", "expires_at", "current", "second_factor", "app_id"}
        assert all(set(item) == expected for item in items), "and nothing else"

    def test_come_in_pages(self, clinic: Clinic, nurse: Caller) -> None:
        wanted = [session_of(nurse)] + [session_of(clinic.signed_in(UUID(nurse.id))) for _ in range(4)]
        found, cursor = [], None
        for _ in range(3):
            page = nurse.get("/me/sessions", limit=2, cursor=cursor).get_json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next"]
        assert (found, cursor) == (wanted[::-1], None)

    def test_one_that_is_over_is_not_listed(
        self, app: Flask, clinic: Clinic, nurse: Caller, move_clock: MoveClock
    ) -> None:
        """Neither for having ended nor for having lain idle."""
        clinic.signed_in(UUID(nurse.id)).post("/auth/logout")
        clinic.signed_in(UUID(nurse.id))
        move_clock(minutes=31)
        later = again(app, clinic, clinic.signed_in(UUID(nurse.id)))
        assert [item["id"] for item in later.get("/me/sessions").get_json()["items"]] == [session_of(later)]

    def test_ending_one_counts_on_its_next_request(self, clinic: Clinic, nurse: Caller, database_url: str) -> None:
        lost = clinic.signed_in(UUID(nurse.id))
        assert lost.get("/me").status_code == 200
        assert nurse.delete(f"/me/sessions/{session_of(lost)}").status_code == 204
        assert lost.get("/me").status_code == 401
        assert nurse.get("/me").status_code == 200
        assert nurse.delete(f"/me/sessions/{session_of(lost)}").status_code == 404, "it is over already"
        assert "session.ended success" in events(database_url, nurse)

    def test_the_present_one_can_be_ended(self, nurse: Caller) -> None:
        assert nurse.delete(f"/me/sessions/{session_of(nurse)}").status_code == 204
        assert nurse.get("/me").status_code == 401

    def test_those_of_others_are_not_there(self, clinic: Clinic, other_clinic: Clinic, nurse: Caller) -> None:
        """Neither a colleague's nor another clinic's; not for an administrator either."""
        for other in (clinic.user(Role.NURSE), other_clinic.user(Role.NURSE)):
            for caller in (nurse, clinic.admin):
                answer = caller.delete(f"/me/sessions/{session_of(other)}")
                assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
            assert other.get("/me").status_code == 200

    def test_a_refresh_token_ends_with_it(self, clinic: Clinic) -> None:
        doctor = clinic.user(Role.CLINICIAN, password=PASSWORD)
        body = {"email": clinic.email_of(doctor), "password": PASSWORD}
        pair = doctor.post("/auth/login", body).get_json()
        other = Caller(doctor.app, pair["access_token"])
        assert doctor.delete(f"/me/sessions/{session_of(other)}").status_code == 204
        assert doctor.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}).status_code == 401


class TestSessionsOfOthers:
    """GET and DELETE /users/{id}/sessions."""

    def test_an_administrator_sees_and_ends_all_of_them(self, clinic: Clinic, nurse: Caller, database_url: str) -> None:
        both, colleague = [nurse, clinic.signed_in(UUID(nurse.id))], clinic.user(Role.NURSE)
        items = clinic.admin.get(f"/users/{nurse.id}/sessions").get_json()["items"]
        assert [item["id"] for item in items] == [session_of(one) for one in reversed(both)]
        assert not any(item["current"] for item in items)
        assert clinic.admin.delete(f"/users/{nurse.id}/sessions").status_code == 204
        assert [one.get("/me").status_code for one in both] == [401, 401]
        assert [one.get("/me").status_code for one in (colleague, clinic.admin)] == [200, 200]
        assert clinic.admin.get(f"/users/{nurse.id}/sessions").get_json()["items"] == []
        assert {"session.listed success", "session.all-ended success"} <= set(events(database_url, clinic.admin))

    def test_an_administrator_may_end_all_their_own(self, clinic: Clinic) -> None:
        admin = clinic.user(Role.ADMIN)
        assert admin.get(f"/users/{admin.id}/sessions").get_json()["items"][0]["current"]
        assert admin.delete(f"/users/{admin.id}/sessions").status_code == 204
        assert admin.get("/me").status_code == 401

    def test_an_account_that_is_not_there_is_404(self, clinic: Clinic, nurse: Caller) -> None:
        for method in ("GET", "DELETE"):
            assert clinic.admin.call(method, f"/users/{session_of(nurse)}/sessions").status_code == 404


class TestLimits:
    """TOK-10, with the clock moved."""

    @pytest.mark.parametrize(
        ("roles", "minutes"),
        [
            ([Role.CLINICIAN], 30),
            ([Role.NURSE], 30),
            ([Role.RECEPTIONIST], 30),
            ([Role.PATIENT], 30),
            ([Role.ADMIN], 15),
            ([Role.AUDITOR], 15),
            ([Role.NURSE, Role.ADMIN], 15),
            ([Role.NURSE, Role.SERVICE], 30),
        ],
        ids=str,
    )
    def test_an_idle_sign_in_is_over(
        self, app: Flask, clinic: Clinic, move_clock: MoveClock, roles: list[Role], minutes: int
    ) -> None:
        """For access and refresh alike, and a call in time puts it off."""
        caller = clinic.user(*roles)
        move_clock(minutes=minutes - 1)
        assert again(app, clinic, caller).get("/me").status_code == 200
        move_clock(minutes=2 * minutes - 2)
        assert again(app, clinic, caller).get("/me").status_code == 200
        move_clock(minutes=3 * minutes - 1)
        refused = again(app, clinic, caller).get("/me")
        assert (refused.status_code, refused.get_json()["code"]) == (401, "unauthenticated")

    def test_no_use_lasts_beyond_twelve_hours(self, app: Flask, clinic: Clinic, move_clock: MoveClock) -> None:
        nurse = clinic.user(Role.NURSE)
        for step in range(1, 48):
            move_clock(minutes=15 * step)
            assert again(app, clinic, nurse).get("/me").status_code == 200
        move_clock(hours=12, minutes=1)
        assert again(app, clinic, nurse).get("/me").status_code == 401

    def test_the_absolute_limit_is_that_of_the_role(
        self, app: Flask, clinic: Clinic, nurse: Caller, monkeypatch: pytest.MonkeyPatch, move_clock: MoveClock
    ) -> None:
        """Though the row itself says twelve hours."""
        monkeypatch.setitem(LIMITS, Role.NURSE, Limits(None, timedelta(hours=1)))
        move_clock(minutes=59)
        assert again(app, clinic, nurse).get("/me").status_code == 200
        move_clock(minutes=60)
        assert again(app, clinic, nurse).get("/me").status_code == 401

    def test_a_service_has_no_idle_limit(self, app: Flask, clinic: Clinic, move_clock: MoveClock) -> None:
        """But the expiry of its own sign-in."""
        service = clinic.user(Role.SERVICE)
        move_clock(hours=11)
        assert again(app, clinic, service).get("/me").status_code == 200
        move_clock(hours=12, minutes=1)
        assert again(app, clinic, service).get("/me").status_code == 401

    def test_a_role_given_meanwhile_counts(self, app: Flask, clinic: Clinic, move_clock: MoveClock) -> None:
        nurse = clinic.user(Role.NURSE)
        assert clinic.admin.put(f"/users/{nurse.id}/roles", {"roles": ["nurse", "auditor"]}).status_code == 200
        move_clock(minutes=16)
        assert again(app, clinic, nurse).get("/me").status_code == 401

    def test_a_refresh_obeys_them_and_is_no_use(self, clinic: Clinic, move_clock: MoveClock) -> None:
        """A client that only refreshes does not keep a sign-in alive, and a refused token stays unused."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        body = {"email": clinic.email_of(nurse), "password": PASSWORD}
        token = nurse.post("/auth/login", body).get_json()["refresh_token"]
        for minutes in (10, 20, 29):
            move_clock(minutes=minutes)
            answer = nurse.post("/auth/refresh", {"refresh_token": token})
            assert answer.status_code == 200
            token = answer.get_json()["refresh_token"]
        move_clock(minutes=31)
        for _ in range(2):
            refused = nurse.post("/auth/refresh", {"refresh_token": token})
            assert (refused.status_code, refused.get_json()["code"]) == (401, "invalid_refresh_token")

    def test_each_role_has_limits_and_nobody_has_the_strictest(self) -> None:
        assert set(LIMITS) == set(Role)
        assert limits_of([]) == Limits(timedelta(minutes=15), timedelta(hours=12))
        assert limits_of([Role.SERVICE]) == Limits(None, None)

    @pytest.mark.parametrize("name", ["skip_timeout_reset", "expires_at", "now", "organization_id", "token", "debug"])
    def test_no_query_parameter_revives_it(
        self, app: Flask, clinic: Clinic, nurse: Caller, move_clock: MoveClock, name: str
    ) -> None:
        """TOK-12, of which OpenEMR's CVE-2026-25476 is an instance."""
        move_clock(minutes=31)
        late = again(app, clinic, nurse)
        for path in ("/me", "/me/sessions", "/patients"):
            answer = late.get(path, **{name: "1"})
            assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthenticated")
        assert late.post(f"/auth/logout?{name}=1").status_code == 401

    def test_no_header_revives_it(
        self, app: Flask, clinic: Clinic, other_clinic: Clinic, nurse: Caller, move_clock: MoveClock
    ) -> None:
        """Nor a cookie, nor another name for who calls or where."""
        move_clock(minutes=31)
        late = again(app, clinic, nurse)
        assert clinic.admin.user_id
        for name, value in {
            "X-Forwarded-User": clinic.admin.id,
            "X-Remote-User": clinic.admin.id,
            "Remote-User": clinic.admin.id,
            "X-User-Id": clinic.admin.id,
            "X-Original-URL": "/health/live",
            "X-Rewrite-URL": "/health/live",
            "X-HTTP-Method-Override": "GET",
            "X-Organization-Id": str(other_clinic.organization_id),
            "X-Tenant": str(other_clinic.organization_id),
            "X-Skip-Timeout-Reset": "1",
            "X-Token-Expiry": "never",
            "X-Forwarded-For": "127.0.0.1",
            "X-Internal": "true",
            "Date": "Thu, 01 Jan 1970 00:00:00 GMT",
            "Cookie": f"session={nurse.token}; access_token={nurse.token}",
            "Proxy-Authorization": f"Bearer {nurse.token}",
            "X-Access-Token": str(nurse.token),
        }.items():
            assert late.call("GET", "/me", headers={name: value}).status_code == 401, name
            assert Caller(app).call("GET", "/me", headers={name: value}).status_code == 401, name


class TestUse:
    """When a sign-in was last used is noted once a minute, whatever becomes of the request."""

    def test_most_requests_pay_nothing(self, clinic: Clinic, nurse: Caller, statements: Statements) -> None:
        assert nurse.get("/me").status_code == 200
        assert not any("auth_session SET" in one for one in statements.sent)

    def test_it_is_noted_once_a_minute(
        self, app: Flask, clinic: Clinic, nurse: Caller, move_clock: MoveClock, statements: Statements
    ) -> None:
        before = last_used(app, clinic, nurse)
        for seconds, noted in ((59, 0), (61, 1), (100, 1), (122, 2)):
            move_clock(seconds=seconds)
            assert again(app, clinic, nurse).get("/me").status_code == 200
            assert sum("auth_session SET last_used_at" in one for one in statements.sent) == noted
        assert last_used(app, clinic, nurse) - before > timedelta(seconds=120)

    def test_a_request_that_is_refused_counts_too(
        self, app: Flask, clinic: Clinic, nurse: Caller, move_clock: MoveClock
    ) -> None:
        """Its transaction is rolled back, and the note stays."""
        before = last_used(app, clinic, nurse)
        move_clock(minutes=5)
        assert again(app, clinic, nurse).get("/users").status_code == 403
        assert last_used(app, clinic, nurse) - before > timedelta(minutes=4)

    def test_it_does_not_wait_for_a_request_that_holds_the_sign_in(
        self, app: Flask, clinic: Clinic, nurse: Caller, move_clock: MoveClock, database_url: str
    ) -> None:
        """As every change does before it commits; so the two cannot deadlock."""
        move_clock(minutes=5)
        with psycopg.connect(psycopg_url(database_url)) as connection:
            connection.execute("SELECT FROM auth_session WHERE id = %s FOR SHARE", [session_of(nurse)])
            assert again(app, clinic, nurse).get("/me").status_code == 200
            assert again(app, clinic, nurse).post("/auth/step-up", {"password": "x"}).status_code == 401
        assert again(app, clinic, nurse).get("/me").status_code == 200
        assert clock.now() - last_used(app, clinic, nurse) < timedelta(minutes=1)

    def test_a_sign_in_that_ends_meanwhile_stays_ended(
        self, app: Flask, clinic: Clinic, nurse: Caller, monkeypatch: pytest.MonkeyPatch, move_clock: MoveClock
    ) -> None:
        """The note is made of a live sign-in only, and never makes one live."""
        note, looked, ended = sessions.note_use, Event(), Event()

        def pause(session_id: UUID, last_used_at: datetime, now: datetime) -> None:
            looked.set()
            assert ended.wait(10)
            note(session_id, last_used_at, now)

        move_clock(minutes=5)
        caller, other = again(app, clinic, nurse), again(app, clinic, clinic.signed_in(UUID(nurse.id)))
        monkeypatch.setattr(sessions, "note_use", pause)
        thread = Thread(target=caller.get, args=("/me",))
        thread.start()
        assert looked.wait(10)
        monkeypatch.setattr(sessions, "note_use", note)
        before = last_used(app, clinic, nurse)
        assert other.delete(f"/me/sessions/{session_of(nurse)}").status_code == 204
        ended.set()
        thread.join()
        assert last_used(app, clinic, nurse) == before
        assert caller.get("/me").status_code == 401


def test_a_role_taken_away_counts_on_the_next_request_of_the_same_token(clinic: Clinic) -> None:
    """TOK-09: demote, and replay."""
    twice = clinic.user(Role.ADMIN, Role.NURSE)
    assert twice.get("/users").status_code == 200
    assert clinic.admin.put(f"/users/{twice.id}/roles", {"roles": ["nurse"]}).status_code == 200
    assert [twice.get(path).status_code for path in ("/users", "/me")] == [403, 200]


class TestSweep:
    """A new sign-in removes those of the same user that are long over."""

    def test_what_is_over_for_a_day_goes_and_the_rest_stays(self, clinic: Clinic) -> None:
        """With its refresh tokens; nobody else's, and nothing of the last day."""
        nurse, other = clinic.user(Role.NURSE), clinic.user(Role.NURSE)
        age(clinic, 3)
        assert nurse.user_id
        clinic.signed_in(nurse.user_id)
        assert (kept(clinic, nurse), kept(clinic, other)) == ((1, 1), (1, 1))
        age(clinic, 1)
        clinic.signed_in(nurse.user_id)
        assert (kept(clinic, nurse), kept(clinic, other)) == ((2, 2), (1, 1))
        age(clinic, 1)
        clinic.signed_in(nurse.user_id)
        assert kept(clinic, nurse) == (2, 2), "the one of a day and a half ago is gone"


def kept(clinic: Clinic, caller: Caller) -> tuple[int, int]:
    """How many sign-ins of the caller there are, and refresh tokens of them."""
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        sessions = db.session.scalars(select(AuthSession.id).where(AuthSession.user_id == caller.user_id)).all()
        tokens = db.session.scalars(select(RefreshToken.id).where(RefreshToken.session_id.in_(sessions))).all()
        return len(sessions), len(tokens)


def age(clinic: Clinic, days: int) -> None:
    """Let all sign-ins have expired so many days earlier."""
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        earlier = AuthSession.expires_at - timedelta(days=days)
        db.session.execute(update(AuthSession).values(expires_at=earlier))
        db.session.commit()
