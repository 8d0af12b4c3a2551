"""What may be known of people from log lines, refusals and metrics: nothing.

A patient and an account with a word of its own in every field go through everything that can happen
to them, failures included; then the words are looked for.
"""

import io
import json
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from medical.config import LogFormat
from medical.identity import service as identity
from medical.people import service as people
from medical.platform import logging
from medical.scheduling import service as scheduling
from tests.clinic import API, Caller, Clinic, day_after

WORDS = {
    "email": "zebrafish.okapi@quokka-mail.example.org",
    "given_name": "Xanthippe",
    "family_name": "Quetzalcoatl",
    "password": "wombat-narwhal-axolotl-77",
    "phone": "+49 30 55501987",
    "birth_date": "1931-02-13",
    "line": "Tardigrade Lane 7",
    "city": "Pangolinville",
    "state": "Capybara",
    "postal_code": "PX99 4ZQ",
    "country": "Numbatia",
    "system": "urn:kinkajou",
    "value": "FOSSA-4471-0093",
    "reason": "axillary lymphadenopathy",
    "cancel": "went to the competitor Dr Marmoset",
    "search": "Quetzalcoatlus",
    "stranger": "vaquita@unknown.example.org",
}
"""A word for each thing that is somebody's own business."""

PATIENT = {
    "given_name": WORDS["given_name"],
    "family_name": WORDS["family_name"],
    "birth_date": WORDS["birth_date"],
    "sex": "female",
    "email": WORDS["email"],
    "phone": WORDS["phone"],
    "identifiers": [{"system": WORDS["system"], "value": WORDS["value"]}],
    "address": {
        "line": [WORDS["line"]],
        "city": WORDS["city"],
        "state": WORDS["state"],
        "postal_code": WORDS["postal_code"],
        "country": WORDS["country"],
    },
}
ACCOUNT = {name: WORDS[name] for name in ("email", "given_name", "family_name", "password")}


@dataclass
class Story:
    """What was said to the outside while all of it happened."""

    log: str = ""
    refusals: list[TestResponse] = field(default_factory=list)
    answers: list[TestResponse] = field(default_factory=list)
    metrics: str = ""
    tokens: list[str] = field(default_factory=list)

    def add(self, answer: TestResponse, expected: int) -> Any:
        """Keep an answer, of which the status is known."""
        assert answer.status_code == expected, answer.text
        self.answers.append(answer)
        if expected >= 400:
            self.refusals.append(answer)
        return answer.get_json(silent=True)


class Told(Exception):
    """A failure that carries what it was about, as failures do."""


def fails(*_arguments: Any, **named: Any) -> Any:
    """In place of a verb: it breaks, with everything it was given in its message."""
    raise Told(f"cannot work with {named}")


@pytest.fixture(scope="module")
def story(app: Flask, open_clinic: Clinic) -> Story:
    """Everything that can happen, once."""
    story, written, before = Story(), io.StringIO(), sys.stdout
    settings = app.extensions["settings"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", written)
        logging.configure(replace(settings, log_format=LogFormat.JSON, log_level="DEBUG"))
        happy_and_refused(app, Clinic(app), story)
        failing(app, Clinic(app), story)
        open_clinic_story(app, story)
        story.metrics = Caller(app).get("/metrics").text
    story.log = written.getvalue()
    assert sys.stdout is before
    logging.configure(settings)
    return story


def happy_and_refused(app: Flask, clinic: Clinic, story: Story) -> None:
    """A patient's and an account's life, with every refusal on the way."""
    admin, nobody = clinic.admin, Caller(app)
    doctor, kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
    clinic.hours(doctor)
    patient = story.add(admin.post("/patients", PATIENT, Idempotency_Key="k"), 201)
    story.add(admin.post("/patients", PATIENT | {"phone": None}, Idempotency_Key="k"), 422)
    story.add(admin.post("/patients", PATIENT | {"confirm_new": True}), 409)
    story.add(admin.get("/patients", q=WORDS["search"]), 200)
    story.add(admin.get("/patients", q=WORDS["phone"], **{WORDS["given_name"]: "1"}), 422)
    story.add(admin.get(f"/patients/{WORDS['value']}"), 404)
    story.add(admin.patch(f"/patients/{patient['id']}", PATIENT | {"sex": WORDS["family_name"], "phone": "x"}), 422)
    story.add(admin.patch(f"/patients/{patient['id']}", {"phone": WORDS["phone"]}, If_Match='"99"'), 412)
    story.add(admin.patch(f"/patients/{patient['id']}", PATIENT), 200)
    story.add(admin.post("/patients", [WORDS["family_name"]]), 422)
    raw = f'{{"family_name": "{WORDS["family_name"]}", '.encode()
    headers = {"Authorization": f"Bearer {admin.token}", "Content-Type": "application/json"}
    story.add(app.test_client().post(f"{API}/patients", data=raw, headers=headers), 400)
    story.add(app.test_client().post(f"{API}/patients", data=raw, headers=headers | {"Content-Type": "text/x"}), 415)
    booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00")) | {"reason": WORDS["reason"]}
    booked = story.add(admin.post("/appointments", booking), 201)
    story.add(admin.post("/appointments", booking), 409)
    story.add(admin.post("/appointments", booking | {"reason": WORDS["reason"] * 400}), 422)
    cancel = {"reason": WORDS["cancel"]}
    story.add(admin.post(f"/appointments/{booked['id']}/cancel", cancel), 200)
    story.add(admin.post(f"/appointments/{booked['id']}/cancel", cancel), 409)
    story.add(admin.get(f"/appointments/{booked['id']}/history"), 200)
    story.add(admin.post("/users", ACCOUNT | {"roles": ["nurse"]}), 201)
    story.add(admin.post("/users", ACCOUNT | {"roles": ["nurse"]}), 409)
    story.add(admin.post("/users", ACCOUNT | {"roles": [WORDS["given_name"]]}), 422)
    story.add(nobody.post("/auth/login", {"email": WORDS["stranger"], "password": WORDS["password"]}), 401)
    story.add(nobody.post("/auth/login", {"email": WORDS["email"], "password": WORDS["password"] + "!"}), 401)
    login = {"email": WORDS["email"], "password": WORDS["password"]}
    pair = story.add(nobody.post("/auth/login", login), 200)
    renewed = story.add(nobody.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}), 200)
    story.add(nobody.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}), 401)
    story.tokens += [one[name] for one in (pair, renewed) for name in ("access_token", "refresh_token")]
    story.add(Caller(app, renewed["access_token"]).get("/me"), 401)
    other = Clinic(app).admin
    story.add(other.get(f"/patients/{patient['id']}"), 404)
    story.add(clinic.user().post("/patients", PATIENT), 403)


def failing(app: Flask, clinic: Clinic, story: Story) -> None:
    """Bugs of ours, and errors of the database that quote what they are about."""
    admin = clinic.admin
    doctor, kind, patient = clinic.clinician(), clinic.appointment_type(), clinic.patient()
    booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00")) | {"reason": WORDS["reason"]}
    login = {"email": WORDS["email"], "password": WORDS["password"]}
    calls: list[tuple[Any, str, str, dict[str, Any]]] = [
        (people, "register_patient", "/patients", PATIENT),
        (identity, "create_user", "/users", ACCOUNT | {"email": "other." + WORDS["email"], "roles": ["nurse"]}),
        (identity, "login", "/auth/login", login),
        (scheduling, "book", "/appointments", booking),
    ]
    for module, verb, path, body in calls:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, verb, fails)
            story.add(admin.post(path, body), 500)
    story.add(admin.post("/patients", PATIENT), 201)
    with pytest.MonkeyPatch.context() as patch:
        # Constraints that nobody has a word for: PostgreSQL's message quotes the values.
        patch.setattr(people, "IDENTIFIER_TAKEN", {})
        patch.setattr(identity, "EMAIL_TAKEN", {})
        story.add(admin.post("/patients", PATIENT | {"confirm_new": True}), 500)
        story.add(admin.post("/users", ACCOUNT | {"roles": ["nurse"]}), 500)


def open_clinic_story(app: Flask, story: Story) -> None:
    """Somebody registers, twice."""
    body = ACCOUNT | {"email": "third." + WORDS["email"], "birth_date": WORDS["birth_date"]}
    for _ in range(2):
        story.add(Caller(app).post("/auth/register", body), 201)
    story.add(Caller(app).post("/auth/register", body | {"birth_date": "2999-01-01", "password": "short"}), 422)


def found_in(text: str, words: list[str]) -> list[str]:
    """Which of the words stand in the text, in whatever case."""
    return [word for word in words if word.lower() in text.lower()]


class TestLog:
    """What stands in the log."""

    def test_has_nobodys_data(self, story: Story) -> None:
        """No field of a patient or an account, no password, no token, no word that was searched for."""
        assert found_in(story.log, [*WORDS.values(), *story.tokens]) == []

    def test_is_one_json_object_a_line(self, story: Story) -> None:
        """With event, level and time, whoever wrote it."""
        lines = [json.loads(line) for line in story.log.splitlines()]
        assert len(lines) > len(story.answers)
        assert all({"event", "level", "time", "logger"} <= line.keys() for line in lines)

    def test_has_the_id_of_the_request_in_every_line(self, story: Story) -> None:
        """And a line for every request, by which it is found."""
        lines = [json.loads(line) for line in story.log.splitlines()]
        assert [line for line in lines if "request_id" not in line] == []
        logged = {line["request_id"]: line for line in lines if line["event"] == "request"}
        for answer in story.answers:
            line = logged[answer.headers["X-Request-ID"]]
            assert line["status"] == answer.status_code

    def test_says_what_failed_and_where(self, story: Story) -> None:
        """An operator who has the request's id finds the kind of error and its place in the code."""
        lines = [json.loads(line) for line in story.log.splitlines()]
        failed = [answer.headers["X-Request-ID"] for answer in story.refusals if answer.status_code == 500]
        errors = {line["request_id"]: line for line in lines if line["level"] == "error"}
        assert len(failed) == 6
        assert set(errors) == set(failed)
        assert {line["error"] for line in errors.values()} == {"Told", "IntegrityError"}
        assert all("medical/" in line["exception"] for line in errors.values())


class TestAnswers:
    """What stands in refusals and metrics."""

    def test_refusals_have_nobodys_data(self, story: Story) -> None:
        """Not even what the caller sent comes back; candidates of a duplicate are shown on purpose."""
        assert len(story.refusals) > 20
        for answer in story.refusals:
            body = answer.get_json()
            shown = json.dumps({name: value for name, value in body.items() if name != "candidates"})
            allowed = [WORDS["given_name"]] if f"/{WORDS['given_name']}" in shown else []
            assert found_in(shown, [*WORDS.values(), *story.tokens]) == allowed, "but the name of an unknown parameter"

    def test_metrics_have_nobodys_data(self, story: Story) -> None:
        """They count routes."""
        assert "medical_http_requests_total" in story.metrics
        assert found_in(story.metrics, [*WORDS.values(), *story.tokens]) == []

    def test_the_words_were_there_to_be_found(self, story: Story) -> None:
        """Answers to those who may know do have them."""
        shown = json.dumps([answer.get_json(silent=True) for answer in story.answers if answer.status_code < 300])
        secret = {"password", "search", "stranger"}
        assert set(WORDS.values()) - set(found_in(shown, list(WORDS.values()))) == {WORDS[name] for name in secret}
