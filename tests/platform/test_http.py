"""The edge: what every declared route does before and after its view."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from flask import Blueprint, Flask
from sqlalchemy import text

from medical.app import create_app
from medical.audit import service as audit
from medical.config import Mode
from medical.identity.permissions import Permission, Role
from medical.people.errors import LocationExists
from medical.platform import http
from medical.platform.db import db, flush_or_raise
from medical.platform.http import UndeclaredRoute, endpoint
from medical.platform.ids import new_id
from tests.clinic import API, Caller, Clinic
from tests.conftest import SECRET, psycopg_url
from tests.platform.conftest import Probe

ASK = {"name": "anything"}


def code_of(answer: Any) -> str:
    """The code of a problem document."""
    assert answer.content_type == "application/problem+json"
    code: str = answer.get_json()["code"]
    return code


def raise_in_database(*states: str) -> Callable[[], None]:
    """PostgreSQL raises each SQLSTATE in turn, then nothing more."""
    left = list(states)

    def does() -> None:
        if left:
            db.session.execute(text(f"DO $$ BEGIN RAISE SQLSTATE '{left.pop(0)}'; END $$"))

    return does


class TestDeclarations:
    """A route says who may call it, or there is no start."""

    @pytest.fixture
    def strange(self, database_url: str) -> Flask:
        """An application that nobody has asked anything yet."""
        return create_app({"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST})

    def test_a_route_without_declaration_refuses_to_start(self, strange: Flask) -> None:
        """The refusal names the path."""
        http.ensure_declared(strange)
        strange.add_url_rule("/api/v1/backdoor", view_func=lambda: "hello", endpoint="backdoor")
        with pytest.raises(UndeclaredRoute, match="/api/v1/backdoor is not declared"):
            http.ensure_declared(strange)

    def test_a_public_route_refuses_to_start_unless_it_is_listed(self, strange: Flask) -> None:
        """Forgetting the permission makes nothing public."""
        bp = Blueprint("extra", __name__)
        endpoint(bp.get("/api/v1/extra"))(lambda: None)
        endpoint(bp.get("/api/v1/guarded"), permission=Permission.SESSION_OWN)(dict)
        strange.register_blueprint(bp)
        with pytest.raises(UndeclaredRoute, match="/api/v1/extra has no permission"):
            http.ensure_declared(strange)
        strange.extensions["http"].public = {
            rule.endpoint for rule in strange.url_map.iter_rules() if rule.endpoint != "extra.dict"
        }
        http.ensure_declared(strange)


class TestSignIn:
    """Who calls is asked first."""

    @pytest.mark.parametrize(
        "header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token abc", "Bearer nonsense", "Bearer a.b.c"]
    )
    def test_a_call_without_a_good_token_is_401(self, probe: Probe, caller: Caller, header: str | None) -> None:
        """The answer says how to authenticate; the same call with a token goes through."""
        sent = {} if header is None else {"Authorization": header}
        answer = Caller(probe.app).call("GET", "/probe", headers=sent)
        assert (answer.status_code, code_of(answer)) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert probe.called == 0
        assert caller.call("GET", "/probe", headers={"Authorization": f"bearer  {caller.token}"}).status_code == 200

    def test_the_body_of_a_stranger_is_not_read(self, probe: Probe) -> None:
        """401 comes before any word on what was sent."""
        answer = probe.app.test_client().post(f"{API}/probe", data=b"{", content_type="application/json")
        assert answer.status_code == 401


class TestInput:
    """What comes in is read before the view runs."""

    def test_a_parameter_that_the_route_does_not_have_is_refused(self, probe: Probe, caller: Caller) -> None:
        """On routes with and without a query; a pointer escapes what is special in it."""
        with_query = caller.call("GET", "/probe?limit=5&colour=red")
        without = caller.call("GET", "/probe/audited?a%2Fb=1&c=2")
        assert [one["pointer"] for one in with_query.get_json()["errors"]] == ["/colour"]
        assert [one["pointer"] for one in without.get_json()["errors"]] == ["/a~1b", "/c"]
        assert probe.called == 0

    def test_a_body_of_another_media_type_is_415(self, probe: Probe, caller: Caller) -> None:
        """JSON with a charset is JSON; JSON called a form is not."""
        client, sent = probe.app.test_client(), {"Authorization": f"Bearer {caller.token}"}
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = client.post(f"{API}/probe", data=b'{"name": "x"}', content_type=media_type, headers=sent)
            assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")
        answer = client.post(
            f"{API}/probe", data=b'{"name": "x"}', content_type="application/json; charset=utf-8", headers=sent
        )
        assert answer.status_code == 201

    def test_a_body_over_a_mebibyte_is_413(self, probe: Probe, caller: Caller) -> None:
        """One just below is read, and then refused for what is in it."""
        client, sent = probe.app.test_client(), {"Authorization": f"Bearer {caller.token}"}
        statuses = [
            client.post(f"{API}/probe", data=b" " * size, content_type="application/json", headers=sent).status_code
            for size in (1024 * 1024, 1024 * 1024 + 1)
        ]
        assert statuses == [400, 413]

    @pytest.mark.parametrize("header", ["3", '"three"', '"1", "2"', '"1234567890"', '""'])
    def test_an_if_match_that_is_no_etag_is_422(self, caller: Caller, header: str) -> None:
        """It is never taken for no condition at all."""
        answer = caller.call("PATCH", "/probe", ASK, {"If-Match": header})
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.get_json()["errors"]] == ["If-Match"]
        assert [
            caller.call("PATCH", "/probe", ASK, {"If-Match": fine}).status_code for fine in ('"3"', 'W/"3"', "*")
        ] == [200, 200, 200]


class TestAnswer:
    """What goes out follows from the declaration."""

    def test_what_was_made_has_a_location_and_an_etag(self, caller: Caller) -> None:
        """The location is where it can be read."""
        answer = caller.post("/probe", ASK)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"{API}/probe/{answer.get_json()['id']}"
        assert answer.headers["ETag"] == '"1"'

    def test_no_content_has_no_content_type(self, clinic: Clinic) -> None:
        """A 204 is empty in every respect."""
        answer = clinic.user(Role.NURSE).post("/auth/logout")
        assert (answer.status_code, answer.data, "Content-Type" in answer.headers) == (204, b"", False)


class TestTransaction:
    """One request is one transaction: all of it happened, or none."""

    def test_a_get_that_writes_is_not_committed(self, probe: Probe, caller: Caller) -> None:
        """A POST that does the same is."""
        probe.does = probe.write
        assert caller.get("/probe").status_code == 200
        assert probe.written(caller) == 0
        assert caller.post("/probe", ASK).status_code == 201
        assert probe.written(caller) == 1

    def test_what_a_refused_request_wrote_is_gone(self, probe: Probe, caller: Caller) -> None:
        """Also when the refusal is a constraint's."""

        def write_twice() -> None:
            probe.write()
            try:
                probe.write()
            except Exception as error:
                raise LocationExists from error

        probe.does = write_twice
        assert code_of(caller.post("/probe", ASK)) == "location_exists"
        assert probe.written(caller) == 0

    def test_what_a_failed_request_wrote_is_gone(self, probe: Probe, caller: Caller) -> None:
        """A bug of ours leaves nothing half done."""

        def fail() -> None:
            probe.write()
            raise ZeroDivisionError

        probe.does = fail
        assert caller.post("/probe", ASK).status_code == 500
        assert probe.written(caller) == 0

    @pytest.mark.parametrize("state", ["40001", "40P01"])
    def test_a_transaction_that_lost_a_race_is_run_again(self, probe: Probe, caller: Caller, state: str) -> None:
        """Serialization failures and deadlocks are nobody's fault; what the lost attempt wrote is gone."""
        again = raise_in_database(state, state)

        def does() -> None:
            probe.write()
            again()

        probe.does = does
        assert caller.post("/probe", ASK).status_code == 201
        assert (probe.called, probe.written(caller)) == (3, 1)

    def test_the_trail_names_what_the_last_attempt_touched(
        self, probe: Probe, caller: Caller, audit_of: Callable[[Caller], list[Any]]
    ) -> None:
        """What a lost attempt meant to make has never been."""
        again, made = raise_in_database("40001"), []

        def does() -> None:
            made.append(new_id())
            audit.touch("user", made[-1])
            again()

        probe.does = does
        assert caller.post("/probe", ASK).status_code == 201
        assert audit_of(caller) == [("user.created", "success", made[1])]

    def test_the_trail_has_refusals_and_replays_too(
        self, probe: Probe, caller: Caller, audit_of: Callable[[Caller], list[Any]]
    ) -> None:
        """An answer that is given again shows again what it showed; a malformed request touched nothing."""

        def refuse() -> None:
            raise LocationExists

        caller.post("/probe", ASK, Idempotency_Key="one")
        caller.post("/probe", ASK, Idempotency_Key="one")
        caller.post("/probe", {"name": ""})
        probe.does = refuse
        caller.post("/probe", ASK)
        assert [outcome for _, outcome, _ in audit_of(caller)] == ["success", "success", "refused"]

    def test_a_race_that_is_lost_every_time_is_503(self, probe: Probe, caller: Caller) -> None:
        """Four attempts, and then the caller is asked to come again."""
        probe.does = raise_in_database(*["40001"] * 9)
        answer = caller.post("/probe", ASK)
        assert (answer.status_code, code_of(answer), answer.headers["Retry-After"]) == (503, "database_busy", "1")
        assert probe.called == 4

    def test_another_database_error_is_not_tried_again(self, probe: Probe, caller: Caller) -> None:
        """Division by zero stays one."""
        probe.does = raise_in_database("22012")
        assert caller.post("/probe", ASK).status_code == 500
        assert probe.called == 1

    @pytest.fixture
    def audit_of(self, database_url: str) -> Callable[[Caller], list[Any]]:
        """The trail that a caller left, read as the owner of the database."""

        def read(caller: Caller) -> list[Any]:
            with psycopg.connect(psycopg_url(database_url)) as connection:
                query = "SELECT action, outcome, entity_id FROM audit_event WHERE actor_id = %s ORDER BY id"
                return connection.execute(query, [caller.user_id]).fetchall()

        return read


class TestBusyDatabase:
    """A database that is slow, locked or away is said so: 503, never 500."""

    def test_a_statement_over_its_time_is_503(self, probe: Probe, caller: Caller) -> None:
        """The limit is the connection's; here a shorter one."""
        probe.does = lambda: self.run("SET LOCAL statement_timeout = '20ms'", "SELECT pg_sleep(5)")
        self.assert_busy(caller.post("/probe", ASK))

    def test_a_lock_over_its_time_is_503(self, probe: Probe, caller: Caller, database_url: str) -> None:
        """And works once the lock is gone."""
        probe.does = lambda: self.run(
            "SET LOCAL lock_timeout = '20ms'", "SELECT FROM users WHERE id = '" + caller.id + "' FOR UPDATE"
        )
        with self.locked(database_url, caller):
            self.assert_busy(caller.post("/probe", ASK))
        assert caller.post("/probe", ASK).status_code == 201

    def test_every_connection_has_limits_nested_in_each_other(self, probe: Probe) -> None:
        """Lock < statement < idle transaction, so that the innermost cause is named."""
        with probe.app.app_context():
            limits = [
                db.session.scalars(
                    text("SELECT setting::int FROM pg_settings WHERE name = :name"), {"name": name}
                ).one()
                for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
            ]
        assert 0 < limits[0] < limits[1] < limits[2]

    def test_a_table_that_is_not_there_yet_is_said_to_be_coming(self, probe: Probe, caller: Caller) -> None:
        """An older schema is the operator's matter, and passes."""
        probe.does = lambda: self.run("SELECT * FROM table_of_the_future")
        answer = caller.get("/probe")
        assert (answer.status_code, code_of(answer)) == (503, "schema_behind")

    def test_a_pool_without_a_free_connection_is_503(self, small: Flask, clinic: Clinic) -> None:
        """More requests at once than connections: the last ones wait, and then are told."""
        caller = Caller(small, clinic.admin.token)
        with small.app_context():
            engine = db.engine
        with engine.connect():
            self.assert_busy(caller.get("/me"))
        assert caller.get("/me").status_code == 200

    def test_a_server_that_is_away_is_503(self, clinic: Clinic) -> None:
        """Nothing listens on port 1."""
        lost = create_app({"database_url": "postgresql://u@127.0.0.1:1/x", "secret_key": SECRET, "mode": Mode.TEST})
        answer = Caller(lost, clinic.admin.token).get("/me")
        assert (answer.status_code, code_of(answer)) == (503, "database_unreachable")

    def test_a_connection_that_was_cut_is_replaced(self, small: Flask, clinic: Clinic, database_url: str) -> None:
        """The server restarted meanwhile; the caller does not notice."""
        caller = Caller(small, clinic.admin.token)
        with small.app_context():
            pid = db.session.scalars(text("SELECT pg_backend_pid()")).one()
        with psycopg.connect(psycopg_url(database_url), autocommit=True) as connection:
            cut = connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone()
        assert cut == (True,)
        assert caller.get("/me").status_code == 200

    def test_a_violation_that_nobody_expected_is_ours(self, probe: Probe, caller: Caller) -> None:
        """A constraint without a word for the caller is a bug, and is never shown."""

        def violate() -> None:
            db.session.execute(text("INSERT INTO location (id) VALUES (NULL)"))
            flush_or_raise({})

        probe.does = violate
        answer = caller.post("/probe", ASK)
        assert (answer.status_code, code_of(answer)) == (500, "internal_error")
        assert "location" not in answer.text

    @pytest.fixture
    def small(self, database_url: str, app: Flask) -> Iterator[Flask]:
        """An application with one connection."""
        small = create_app(
            {"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST, "database_pool_size": 1}
        )
        yield small
        with small.app_context():
            db.engine.dispose()

    @staticmethod
    def run(*statements: str) -> None:
        """Run them in the request's transaction."""
        for statement in statements:
            db.session.execute(text(statement))

    @staticmethod
    def assert_busy(answer: Any) -> None:
        """The caller may come again in a second."""
        assert (answer.status_code, code_of(answer), answer.headers["Retry-After"]) == (503, "database_busy", "1")

    @staticmethod
    @contextmanager
    def locked(database_url: str, caller: Caller) -> Iterator[None]:
        """Somebody else holds the caller's row."""
        with psycopg.connect(psycopg_url(database_url)) as connection:
            connection.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [caller.user_id])
            yield
