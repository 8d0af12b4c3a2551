"""One effect for one intent: what an ``Idempotency-Key`` promises."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from medical.identity.permissions import Role
from medical.people.errors import LocationExists
from medical.platform import clock, idempotency
from tests.clinic import Caller, Clinic, day_after
from tests.conftest import psycopg_url
from tests.platform.conftest import Probe

ASK = {"name": "anything"}


def replayed(answer: Any) -> bool:
    """Whether the answer is a first one given again."""
    return bool(answer.headers.get("Idempotency-Replayed") == "true")


class TestReplay:
    """The same key with the same request."""

    def test_gives_the_first_answer_again(self, probe: Probe, caller: Caller) -> None:
        """Status, body and headers, without a second effect; another key is another intent."""
        first = caller.post("/probe", ASK, Idempotency_Key="one")
        again = caller.post("/probe", ASK, Idempotency_Key="one")
        other = caller.post("/probe", ASK, Idempotency_Key="two")
        assert (again.status_code, again.data) == (first.status_code, first.data) == (201, first.data)
        for name in ("Location", "ETag", "Content-Type"):
            assert again.headers[name] == first.headers[name]
        assert [replayed(answer) for answer in (first, again, other)] == [False, True, False]
        assert other.data != first.data
        assert probe.called == 2

    def test_has_an_id_of_its_own(self, caller: Caller) -> None:
        """What is replayed is the answer, not the request."""
        ids = [
            caller.post("/probe", ASK, Idempotency_Key="k", X_Request_ID=given).headers["X-Request-ID"]
            for given in ("first", "second")
        ]
        assert ids == ["first", "second"]

    def test_with_another_body_is_refused(self, probe: Probe, caller: Caller) -> None:
        """Somebody uses one key for two intents; a body that only looks different counts as different."""
        caller.post("/probe", ASK, Idempotency_Key="one")
        answer = caller.post("/probe", {"name": "something else"}, Idempotency_Key="one")
        assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")
        assert probe.called == 1

    def test_on_another_path_is_refused(self, clinic: Clinic) -> None:
        """A key does not carry from one call to another."""
        body = {"name": "North", "time_zone": "UTC"}
        assert clinic.admin.post("/locations", body, Idempotency_Key="one").status_code == 201
        kind = {"name": "North", "duration_minutes": 30}
        refused = clinic.admin.post("/appointment-types", kind, Idempotency_Key="one")
        assert refused.get_json()["code"] == "idempotency_key_reused"
        assert clinic.admin.post("/appointment-types", kind, Idempotency_Key="two").status_code == 201

    def test_belongs_to_the_caller(self, probe: Probe, caller: Caller, clinic: Clinic, other_clinic: Clinic) -> None:
        """A colleague and a stranger may use the same word."""
        for somebody in (clinic.user(Role.NURSE), other_clinic.admin):
            answer = Caller(probe.app, somebody.token).post("/probe", ASK, Idempotency_Key="one")
            assert (answer.status_code, replayed(answer)) == (201, False)
        assert not replayed(caller.post("/probe", ASK, Idempotency_Key="one"))
        assert probe.called == 3

    def test_still_asks_for_the_permission(self, clinic: Clinic) -> None:
        """An answer given to an administrator is not given to them when they are none any more."""
        once = clinic.user(Role.ADMIN)
        body = {"name": "North", "time_zone": "UTC"}
        assert once.post("/locations", body, Idempotency_Key="one").status_code == 201
        clinic.admin.put(f"/users/{once.id}/roles", {"roles": ["nurse"]})
        assert once.post("/locations", body, Idempotency_Key="one").status_code == 403

    def test_a_refusal_is_replayed_too(self, probe: Probe, caller: Caller) -> None:
        """A 409 was the outcome of the intent, even if it would go through by now."""

        def refuse() -> None:
            raise LocationExists

        probe.does = refuse
        first = caller.post("/probe", ASK, Idempotency_Key="one")
        probe.does = lambda: None
        again = caller.post("/probe", ASK, Idempotency_Key="one")
        assert (again.status_code, again.data, replayed(again)) == (409, first.data, True)
        assert again.content_type == "application/problem+json"
        assert probe.called == 1

    @pytest.mark.parametrize("status", [422, 500])
    def test_what_was_not_an_outcome_is_not_kept(self, probe: Probe, caller: Caller, status: int) -> None:
        """A body that was wrong, or a failure of ours, may be repeated with the same key."""

        def fail() -> None:
            raise ZeroDivisionError

        probe.does = fail
        body = {"name": ""} if status == 422 else ASK
        assert caller.post("/probe", body, Idempotency_Key="one").status_code == status
        probe.does = lambda: None
        answer = caller.post("/probe", ASK, Idempotency_Key="one")
        assert (answer.status_code, replayed(answer)) == (201, False)

    def test_ends_after_a_day(self, probe: Probe, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """Then the key is as good as new; a minute before it is not."""
        caller.post("/probe", ASK, Idempotency_Key="one")
        outcomes = []
        for passed in (timedelta(hours=23, minutes=59), timedelta(hours=24, minutes=1)):
            self.let_pass(monkeypatch, passed)
            outcomes.append(replayed(caller.post("/probe", ASK, Idempotency_Key="one")))
        assert outcomes == [True, False]
        assert probe.called == 2

    def test_old_keys_are_swept(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
        """Each use takes some of the expired ones away."""
        for key in ("old", "older", "oldest"):
            caller.post("/probe", ASK, Idempotency_Key=key)
        self.let_pass(monkeypatch, timedelta(hours=25))
        caller.post("/probe", ASK, Idempotency_Key="new")
        with psycopg.connect(psycopg_url(database_url)) as connection:
            query = "SELECT array_agg(key) FROM idempotency_key WHERE caller = %s"
            assert connection.execute(query, [caller.id]).fetchone() == (["new"],)

    @staticmethod
    def let_pass(monkeypatch: pytest.MonkeyPatch, time: timedelta) -> None:
        """Set the clock of the keys, and of nothing else, forward."""
        then = clock.now() + time
        monkeypatch.setattr(idempotency, "clock", SimpleNamespace(now=lambda: then))


class TestKey:
    """What counts as a key."""

    @pytest.mark.parametrize("key", ["", "two words", "x" * 201, "ü", "\t"])
    def test_a_word_that_is_no_key_is_refused(self, probe: Probe, caller: Caller, key: str) -> None:
        """Rather than being taken for no key at all."""
        answer = caller.post("/probe", ASK, Idempotency_Key=key)
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.get_json()["errors"]] == ["Idempotency-Key"]
        assert probe.called == 0
        assert caller.post("/probe", ASK, Idempotency_Key="!" * 200).status_code == 201

    def test_means_nothing_where_nothing_is_made(self, caller: Caller) -> None:
        """A PATCH has If-Match."""
        answers = [caller.patch("/probe", ASK, Idempotency_Key="one") for _ in range(2)]
        assert [replayed(answer) for answer in answers] == [False, False]

    def test_the_request_is_kept_as_a_keyed_digest_only(self, caller: Caller, database_url: str) -> None:
        """A body may hold a password: a plain hash of it could be guessed."""
        caller.call("POST", "/probe", ASK, {"Idempotency-Key": "one"})
        with psycopg.connect(psycopg_url(database_url)) as connection:
            row = connection.execute("SELECT digest FROM idempotency_key WHERE caller = %s", [caller.id]).fetchone()
        assert row is not None
        body = b'{"name": "anything"}'
        assert row[0] not in (sha256(body).digest(), sha256(b"POST\n/api/v1/probe\n" + body).digest())
        assert len(row[0]) == 32


class TestRace:
    """The same key many times at once."""

    def test_has_one_effect(self, probe: Probe, caller: Caller) -> None:
        """Eight requests: one does it, the others get its answer."""
        probe.does = probe.write
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: caller.post("/probe", ASK, Idempotency_Key="one"), range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.data for answer in answers}) == 1
        assert sum(not replayed(answer) for answer in answers) == 1
        assert probe.written(caller) == 1

    def test_with_different_bodies_lets_one_through(self, probe: Probe, caller: Caller) -> None:
        """The others used the key of another intent."""
        probe.does = probe.write
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda n: caller.post("/probe", {"name": f"body {n}"}, Idempotency_Key="one"), range(8))
            )
        assert sorted(answer.status_code for answer in answers) == [201] + [422] * 7
        assert probe.written(caller) == 1

    def test_books_a_time_once(self, clinic: Clinic) -> None:
        """A double click on the real thing."""
        doctor, kind, patient = clinic.clinician(time_zone="UTC"), clinic.appointment_type(), clinic.patient()
        clinic.hours(doctor)
        booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00"))
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _: clinic.admin.post("/appointments", booking, Idempotency_Key="click"), range(8))
            )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.get_json()["id"] for answer in answers}) == 1
