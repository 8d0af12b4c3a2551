"""Nothing personal in logs, errors or metrics; and every line tells which request it is of."""

import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from medical.config import LogFormat, Mode, Settings
from medical.identity.permissions import Role
from medical.people import service as people
from medical.platform import logging as program_logging
from tests.clinic import PASSWORD, Caller, Clinic

CANARIES = {
    name: f"canary{name}{uuid4().hex[:8]}"
    for name in ("given", "family", "street", "city", "reason", "identifier", "user", "secret", "cancel")
}


@pytest.fixture
def lines(app: Flask) -> Iterator[list[str]]:
    """Every line that the program and its libraries log, at the most talkative level, as it would be printed."""
    program_logging.configure(Settings(mode=Mode.TEST, log_level="DEBUG", log_format=LogFormat.JSON))
    printed: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            printed.append(self.format(record))

    keeper = Keeper()
    root = logging.getLogger()
    keeper.setFormatter(root.handlers[0].formatter)
    root.addHandler(keeper)
    yield printed
    root.removeHandler(keeper)
    program_logging.configure(Settings(mode=Mode.TEST))


def person() -> dict[str, Any]:
    """A patient with a canary in every personal field."""
    return {
        "given_name": CANARIES["given"],
        "family_name": CANARIES["family"],
        "birth_date": "1911-11-19",
        "sex": "other",
        "email": f"{CANARIES['user']}@example.org",
        "phone": "+49 1111 991177553",
        "identifiers": [{"system": "urn:x", "value": CANARIES["identifier"]}],
        "address": {"line": [CANARIES["street"]], "city": CANARIES["city"]},
    }


class TestCanaries:
    """Whatever is entered stays out of what is printed."""

    def test_none_is_in_a_log_line_an_error_or_a_metric(
        self, app: Flask, clinic: Clinic, lines: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app.config["PROPAGATE_EXCEPTIONS"] = False
        desk, doctor, kind = clinic.user(Role.RECEPTIONIST), clinic.clinician(), clinic.appointment_type()
        clinic.hours(doctor)
        errors = []
        patient = desk.post("/patients", person()).get_json()
        errors.append(desk.post("/patients", person() | {"confirm_new": True}))
        errors.append(desk.post("/patients", person() | {"sex": CANARIES["secret"], "phone": CANARIES["street"]}))
        desk.get("/patients", q=CANARIES["family"])
        start = clinic.free(kind, "2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z")[0]
        body = clinic.booking(patient, doctor, kind, start) | {"reason": CANARIES["reason"]}
        booked = desk.post("/appointments", body).get_json()
        errors.append(desk.post("/appointments", body))
        desk.post(f"/appointments/{booked['id']}/cancel", {"reason": CANARIES["cancel"]})
        login = {"email": f"{CANARIES['user']}@example.org", "password": CANARIES["secret"]}
        errors.append(Caller(app).post("/auth/login", login))
        errors.append(Caller(app, CANARIES["secret"]).get("/me"))
        monkeypatch.setattr(people, "search_patients", self.crash)
        errors.append(desk.get("/patients", q=CANARIES["family"]))
        assert [error.status_code for error in errors] == [409, 422, 409, 401, 401, 500]
        printed = "\n".join(lines) + Caller(app).get("/metrics").text + "".join(error.text for error in errors)
        found = {name for name, canary in CANARIES.items() if canary in printed}
        assert found == set()
        assert "1911-11-19" not in printed
        assert "991177553" not in printed
        assert PASSWORD not in printed

    @staticmethod
    def crash(*_arguments: object) -> None:
        """An error whose message quotes what it was at work on."""
        raise KeyError(CANARIES["family"])


class TestLines:
    """What a line is."""

    def test_each_is_json_with_the_request_it_is_of(self, app: Flask, clinic: Clinic, lines: list[str]) -> None:
        clinic.admin.call("GET", "/me", headers={"X-Request-ID": "of-this-test"})
        parsed = [json.loads(line) for line in lines]
        assert all({"event", "level", "logger", "time"} <= set(line) for line in parsed)
        mine = [line for line in parsed if line.get("request_id") == "of-this-test"]
        assert [line["status"] for line in mine if line["event"] == "request"] == [200]

    def test_what_a_caller_sends_cannot_forge_a_line(self, app: Flask, lines: list[str]) -> None:
        Caller(app).get("/health/live%0d%0a{%22event%22:%22forged%22}\x1b[31m")
        assert all(json.loads(line)["event"] != "forged" for line in lines)
        assert not any("\x1b" in line for line in lines)
