"""ACC-15, ACC-05: answers that tell the same whatever they are asked, and whyever there is nothing."""

import re
from copy import copy
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from medical.platform.web import REQUEST_ID
from tests.clinic import Caller, Clinic
from tests.system.test_access import STAFF, TABLE, Row, World

PUBLIC = ["/health/live", "/health/ready", "/api/openapi.json", "/api/docs", "/api/docs/start.js"]
WORD = "wordofnobodys"
HEADERS = [
    {"Accept": f"text/{WORD}"},
    {"Accept-Language": WORD, "Accept-Encoding": WORD, "Accept-Charset": WORD},
    {"Authorization": f"Bearer {WORD}"},
    {"Authorization": WORD},
    {"Cookie": f"session={WORD}"},
    {"Host": f"{WORD}.example"},
    {"X-Forwarded-Host": WORD, "X-Forwarded-For": WORD, "X-Forwarded-Proto": WORD, "X-Forwarded-Prefix": f"/{WORD}"},
    {"X-Original-URL": f"/{WORD}", "X-Rewrite-URL": f"/{WORD}"},
    {"If-None-Match": f'"{WORD}"', "If-Match": f'"{WORD}"', "If-Modified-Since": WORD, "Range": "bytes=0-3"},
    {"Idempotency-Key": WORD, "Origin": f"https://{WORD}", "Referer": WORD, "User-Agent": WORD},
    {"X-Request-ID": f"{WORD} not an id"},
]
BODIES: list[Any] = [{}, {WORD: WORD}, [WORD], WORD, 1, None]
SAME = {"X-Request-ID": "the-same"}
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def kept(answer: Any) -> tuple[str, bytes, list[tuple[str, str]]]:
    """All of an answer but the request's id."""
    return answer.status, answer.data, [(name, value) for name, value in answer.headers if name != "X-Request-ID"]


class TestPublic:
    """Routes for everybody tell nothing but what they are for (ACC-15)."""

    @pytest.mark.parametrize("path", PUBLIC)
    def test_is_the_same_whatever_it_is_asked(self, app: Flask, path: str) -> None:
        """With any header, with any body."""
        caller = Caller(app)
        plain = kept(caller.call("GET", path))
        assert plain[0] == "200 OK"
        for headers in HEADERS:
            assert kept(caller.call("GET", path, headers=headers)) == plain, headers
        for body in BODIES:
            assert kept(caller.call("GET", path, body)) == plain, body

    def test_metrics_name_nothing_that_was_asked(self, app: Flask) -> None:
        """Their numbers change, the names of their series only with the routes that were called."""
        caller = Caller(app)
        for headers in HEADERS:
            assert WORD not in caller.call("GET", "/metrics", {WORD: WORD}, headers).text
        caller.call(WORD.upper(), f"/{WORD}", headers={"Host": WORD})
        assert WORD not in caller.get("/metrics").text.lower()

    @pytest.mark.parametrize("path", [*PUBLIC, "/metrics"])
    @pytest.mark.parametrize("value", [WORD, "", "a\x00b", "<script>", "' OR 1=1 --", "x" * 5000])
    def test_a_query_is_refused_without_its_value(self, app: Flask, path: str, value: str) -> None:
        """In the words in which any route refuses a name that it does not know."""
        answer = Caller(app).call("GET", path, headers=SAME)
        refused = app.test_client().get(path, query_string={"callback": value}, headers=SAME)
        other = app.test_client().get(path, query_string={"callback": "other"}, headers=SAME)
        assert (answer.status_code, refused.status_code) == (200, 422)
        assert kept(refused) == kept(other)

    def test_an_id_of_a_request_is_plain(self) -> None:
        """The one thing of a caller's that answers repeat has no character that means anything anywhere."""
        assert not any(REQUEST_ID.fullmatch(character) for character in "<>\"'&;\r\n\x00 %\\{}()$`\u2028")


@pytest.fixture(scope="module")
def world(app: Flask, open_clinic: Any) -> World:
    """A clinic where the patient who calls is one of two."""
    return World(app, open_clinic)


@pytest.fixture(scope="module")
def hidden(world: World) -> World:
    """The same clinic, with the other patient in the place of the one who calls."""
    hidden = copy(world)
    hidden.patient = world.clinic.patient()
    return hidden


@pytest.fixture(scope="module")
def elsewhere(app: Flask, open_clinic: Clinic) -> World:
    """Another organisation."""
    return World(app, open_clinic)


BOUND = [row for row in TABLE if "{patient_id}" in row.route or "{appointment_id}" in row.route]


OTHERWISE = {
    "PUT /fhir/R4/{type_name}/{fhir_id}",  # makes a thing that is not there
    "PUT /fhir/R4/Appointment/{appointment_id}",  # names it in its body too
    "GET /fhir/R4/Slot/{slot_id}",  # has an id that is no UUID
    "GET /fhir/R4/Group/{fhir_id}/$export",  # these four are for programs alone
    "GET /fhir/R4/$export/{export_id}",
    "DELETE /fhir/R4/$export/{export_id}",
    "GET /fhir/R4/$export/{export_id}/{number}.ndjson",
}
"""Asked for otherwise: tests/system/test_subjects.py shows that a foreign thing is as absent as any."""


class TestNothingThere:
    """Absent, of another organisation, not for this caller's eyes: one answer (ACC-05)."""

    @pytest.mark.parametrize(
        "row",
        [row for row in BOUND if row.expected["patient"] < 400 and row.route not in OTHERWISE],
        ids=lambda row: row.route,
    )
    def test_is_the_same_to_a_patient_for_whatever_reason(
        self, world: World, hidden: World, elsewhere: World, row: Row
    ) -> None:
        """To the byte, headers too."""
        path, body = row.asks(world)
        absent = ID.sub(str(uuid4()), path)
        paths = [absent, row.asks(hidden)[0], row.asks(elsewhere)[0]]
        assert len(set(paths)) == 3
        caller = world.caller("patient")
        answers = [kept(caller.call(row.method, one, body, SAME)) for one in paths]
        assert answers[0][0] == "404 NOT FOUND"
        assert answers[1:] == [answers[0]] * 2

    @pytest.mark.parametrize(
        "row", [row for row in TABLE if "_id}" in row.route and row.route not in OTHERWISE], ids=lambda row: row.route
    )
    def test_is_the_same_to_who_may_do_everything(self, world: World, elsewhere: World, row: Row) -> None:
        """Every kind of thing: that of another organisation is as absent as what never was."""
        path, body = row.asks(world)
        caller = world.clinic.user(*STAFF)
        paths = (ID.sub(str(uuid4()), path), row.asks(elsewhere)[0])
        absent, foreign = (kept(caller.call(row.method, one, body, SAME)) for one in paths)
        assert absent[0] == "404 NOT FOUND"
        assert foreign == absent
