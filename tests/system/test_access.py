"""Who may call what: one table of every route and every role."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from flask import Flask
from werkzeug.routing import Rule

from medical import access
from medical.app import create_app
from medical.config import Mode
from medical.fhir.slots import Key, id_of
from medical.identity.permissions import Role, grantable
from medical.platform.db import db
from medical.platform.http import declared_routes
from medical.records import bulk
from tests.clinic import PASSWORD, Caller, Clinic, Form, Patch, day_after, second_factor
from tests.conftest import SECRET

ROLES = ["admin", "clinician", "nurse", "receptionist", "patient", "auditor", "service", "anonymous"]
ANONYMOUS = "anonymous"
STAFF = [role for role in Role if role is not Role.PATIENT]
NUMBERS = count(1)
SMART_APP = {
    "name": "Growth charts",
    "redirect_uris": ["https://app.example.org/back"],
    "launch_uri": "https://app.example.org/launch",
    "scopes": ["patient/*.rs"],
    "confidential": True,
}
SMART_QUESTION = {
    "response_type": "code",
    "redirect_uri": "https://app.example.org/back",
    "scope": "patient/*.rs",
    "aud": "http://localhost/fhir/R4",
    "code_challenge": "x" * 43,
    "code_challenge_method": "S256",
}


class World:
    """A clinic with one caller for each role, and fresh things for calls that use them up."""

    def __init__(self, app: Flask, open_clinic: Clinic) -> None:
        self.app, self.clinic = app, Clinic(app)
        self.numbers = count(1)
        self.open_clinic = open_clinic
        self.place = self.clinic.location()
        self.room = self.clinic.room(self.place)
        self.device = self.clinic.device(self.place)
        keep = {"country": "DE"}
        assert self.clinic.admin.put(f"/locations/{self.place['id']}/holiday-calendar", keep).status_code == 200
        self.kind = self.clinic.appointment_type()
        self.visit = self.clinic.appointment_type(needs_approval=True)
        self.doctor = self.clinic.clinician(time_zone="UTC")
        self.patient, own = self.clinic.patient_with_account()
        self.clinic.set_password(self.doctor, PASSWORD)
        self.clinic.set_password(own, PASSWORD)
        self.callers = {
            Role.CLINICIAN: self.doctor,
            Role.PATIENT: own,
        } | {
            role: self.clinic.user(role, password=PASSWORD)
            for role in Role
            if role not in (Role.CLINICIAN, Role.PATIENT, Role.SERVICE)
        }
        self.program = self.clinic.client()
        self.availability = self.clinic.hours(self.doctor)
        for carer in (self.doctor, self.callers[Role.NURSE]):
            self.clinic.relate(self.patient, carer)
        self.account = self.clinic.user(Role.NURSE, email=f"known{self.number()}@access.example", password=PASSWORD)
        self.email = self.clinic.email_of(self.account)

    def caller(self, role: str, *, once: bool = False) -> Caller:
        """Whoever calls in this role; ``once``: somebody whose sign-ins may end."""
        if role == ANONYMOUS:
            return Caller(self.app)
        if role == Role.SERVICE:
            return self.clinic.program(client=self.program)
        caller = self.callers[Role(role)]
        assert caller.user_id
        return self.clinic.user(Role(role), password=PASSWORD) if once else caller

    def user(self) -> str:
        """The id of a new user."""
        return self.clinic.user(Role.NURSE).id

    def client(self) -> str:
        """The id of a new service client."""
        return str(self.clinic.client("slot:read")["client_id"])

    def token_request(self) -> Form:
        """What the service client gets a token by."""
        shown = {name: self.program[name] for name in ("client_id", "client_secret")}
        return Form({"grant_type": "client_credentials"} | shown)

    def smart_app(self) -> dict[str, Any]:
        """A new app, with its secret."""
        made: dict[str, Any] = self.clinic.admin.post("/smart-apps", SMART_APP).get_json()
        return made

    def question(self) -> str:
        """What an app asks of a user."""
        return urlencode(SMART_QUESTION | {"client_id": self.smart_app()["client_id"]})

    def browser_sign_in(self) -> Form:
        """What a user gives on an app's page."""
        email = self.clinic.email_of(self.callers[Role.PATIENT])
        return Form({"request": self.question(), "email": email, "password": PASSWORD})

    def decision(self) -> Form:
        """What a user says to an app."""
        page = Caller(self.app).post("/oauth/authorize", self.browser_sign_in()).text
        return Form({"ticket": page.partition('name="ticket" value="')[2].partition('"')[0], "decision": "deny"})

    def about_token(self) -> Form:
        """A question about a token, of an app that proves itself."""
        app = self.smart_app()
        return Form({"token": "made up"} | {name: app[name] for name in ("client_id", "client_secret")})

    def twin(self) -> dict[str, str]:
        """Who is to be merged: a new patient."""
        return {"source_patient_id": self.clinic.patient()["id"], "reason": "registered twice"}

    def merge(self) -> str:
        """The id of a merge of the patient."""
        path = f"/patients/{self.patient['id']}/merges"
        return str(self.clinic.admin.post(path, self.twin()).get_json()["id"])

    def no_exports(self) -> str:
        """Nothing, once no export waits any more."""
        with self.app.app_context():
            bulk.run([self.clinic.organization_id])
        return ""

    def export(self) -> str:
        """The id of an export of the service client, which is complete."""
        self.no_exports()
        answer = self.caller(Role.SERVICE).get("/fhir/R4/$export", _type="Patient")
        self.no_exports()
        return answer.headers["Content-Location"].rpartition("/")[2]

    def group(self) -> str:
        """The id of a new Group."""
        body = {"resourceType": "Group", "type": "person", "actual": True}
        return str(self.caller(Role.SERVICE).post("/fhir/R4/Group", body).get_json()["id"])

    def enrolled(self) -> str:
        """The id of a new user with a second factor."""
        user = self.clinic.user(Role.NURSE)
        second_factor(user)
        return user.id

    def number(self) -> int:
        """Another number each time, in every world: emails are unique."""
        return next(NUMBERS)

    def free(self) -> str:
        """The start of a free time, another each time."""
        day, half_hour = divmod(next(self.numbers), 16)
        start = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
        return (start + timedelta(days=day + 2, minutes=30 * half_hour)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def booking(self) -> dict[str, Any]:
        """The body of a booking that would go through."""
        return self.clinic.booking(self.patient, self.doctor, self.kind, self.free())

    def appointment(self, *moves: str) -> str:
        """The id of a new appointment, moved on by ``moves``."""
        return self.moved(self.clinic.appointment(self.patient, self.doctor, self.kind, self.free()), *moves)

    def moved(self, appointment: dict[str, Any], *moves: str) -> str:
        """The id of the appointment, moved on."""
        for move in moves:
            if move == "begin":
                self.clinic.began(appointment)
                continue
            reason = {"reason": "flu"} if move == "cancel" else None
            assert self.clinic.admin.post(f"/appointments/{appointment['id']}/{move}", reason).status_code == 200
        return str(appointment["id"])

    def request(self) -> str:
        """The id of an appointment that waits for approval."""
        return str(self.clinic.appointment(self.patient, self.doctor, self.visit, self.free())["id"])

    def waiting(self) -> dict[str, Any]:
        """The body of an entry of the waitlist, for a type of its own."""
        kind = self.clinic.appointment_type()
        return {"patient_id": self.patient["id"], "appointment_type_id": kind["id"]} | SOON

    def entry(self) -> str:
        """The id of an entry of the waitlist, to whom nothing is offered."""
        return str(self.clinic.admin.post("/waitlist", self.waiting()).get_json()["id"])

    def offered(self) -> str:
        """The id of one to whom a time is offered."""
        body = self.waiting()
        made = self.clinic.appointment(self.patient, self.doctor, self.kind, self.free())
        entry = self.clinic.admin.post("/waitlist", body | {"from": made["start"], "to": made["end"]}).get_json()
        assert self.clinic.admin.post(f"/appointments/{made['id']}/cancel", {"reason": "flu"}).status_code == 200
        assert self.clinic.admin.get(f"/waitlist/{entry['id']}").get_json()["offer"]
        return str(entry["id"])

    def recurring(self) -> dict[str, Any]:
        """The body of a series of two, half a year apart: in weeks, as two ends of months may fall on one day."""
        return self.booking() | {"frequency": "weekly", "interval": 26, "count": 2}

    def proposal(self) -> dict[str, Any]:
        """An Appointment that would go through."""
        return proposed(self.booking())

    def cancelled(self, appointment_id: str) -> dict[str, Any]:
        """The Appointment as it is, but cancelled."""
        read = self.clinic.admin.get(f"/fhir/R4/Appointment/{appointment_id}").get_json()
        return dict(read) | {"status": "cancelled"}

    def slot(self) -> str:
        """The id of a free Slot, another each time."""
        start = datetime.fromisoformat(self.free())
        return id_of(Key(UUID(self.doctor.id), UUID(self.kind["id"]), start, self.kind["duration_minutes"]))

    def feed(self) -> dict[str, Any]:
        """A new calendar feed of the administrator's."""
        made: dict[str, Any] = self.clinic.admin.post("/calendar-feeds", {"patient_id": self.patient["id"]}).get_json()
        return made

    def note(self, *, signed: bool = False, patient: dict[str, Any] | None = None) -> str:
        """The id of a new note that a program wrote about the patient."""
        path = f"/patients/{(patient or self.patient)['id']}/notes"
        program = self.clinic.program(client=self.program)
        made = program.post(path, {"title": "Visit", "text": "cough"})
        assert made.status_code == 201, made.text
        if signed:
            assert program.post(f"{path}/{made.get_json()['id']}/sign").status_code == 200
        return str(made.get_json()["id"])

    def resource(self, patient: dict[str, Any] | None = None) -> str:
        """The id of a new resource: an observation of the patient's."""
        of = (patient or self.patient)["id"]
        made = self.clinic.program(client=self.program).post("/fhir/R4/Observation", observation(of))
        assert made.status_code == 201, made.text
        return str(made.get_json()["id"])

    def series(self) -> str:
        """The id of a new series."""
        made = self.clinic.admin.post("/series", self.recurring())
        assert made.status_code == 201, made.text
        return str(made.get_json()["id"])

    def holding(self) -> dict[str, Any]:
        """The body of a hold that would be placed."""
        return {"appointment_type_id": self.kind["id"], "clinician_id": self.doctor.id, "start": self.free()}

    def relationship(self) -> str:
        """The id of a relationship of the doctor and the patient."""
        return str(self.clinic.relate(self.patient, self.doctor)["id"])

    def proxy(self) -> str:
        """The id of a proxy of the patient that waits for approval."""
        return str(self.clinic.propose_proxy(self.patient, self.clinic.user(Role.PATIENT))["id"])

    def approved_by_another(self) -> str:
        """The id of one that the administrator who calls did not propose."""
        desk, somebody = self.callers[Role.RECEPTIONIST], self.clinic.user(Role.PATIENT)
        body = PARENT | {"user_id": somebody.id}
        return str(desk.post(f"/patients/{self.patient['id']}/proxies", body).get_json()["id"])

    def stranger(self) -> dict[str, Any]:
        """A patient whom nobody cares for."""
        return self.clinic.patient()

    def broken_glass(self) -> str:
        """The id of a grant that waits for a review."""
        nurse, patient = self.clinic.user(Role.NURSE), self.stranger()
        return str(nurse.post(f"/patients/{patient['id']}/break-glass", GLASS).get_json()["id"])

    def with_calendar(self) -> str:
        """The id of a new site that keeps national holidays."""
        site = self.clinic.location()["id"]
        assert self.clinic.admin.put(f"/locations/{site}/holiday-calendar", {"country": "DE"}).status_code == 200
        return str(site)

    def day(self) -> str:
        """Another day each time, far ahead."""
        return str(date(2100, 1, 1) + timedelta(days=self.number()))

    def holiday(self) -> str:
        """The id of a new day of the site's own."""
        body = {"day": self.day(), "name": "Outing"}
        return str(self.clinic.admin.post(f"/locations/{self.place['id']}/holidays", body).get_json()["id"])

    def far_away(self, clinician_id: str = "") -> dict[str, Any]:
        """A time of a clinician's, by default the doctor's, beyond everything that is booked."""
        times = {"start": "2099-01-01T08:00:00Z", "end": "2099-01-01T09:00:00Z"}
        return {"clinician_id": clinician_id or self.doctor.id} | times

    def one_off(self, noun: str, clinician_id: str = "") -> str:
        """The id of a new opening or time off then."""
        return str(self.clinic.admin.post(f"/{noun}", self.far_away(clinician_id)).get_json()["id"])

    def hours(self) -> str:
        """The id of new weekly hours, which overlap nothing that is booked."""
        return str(self.clinic.hours(self.doctor, start_time="20:00", end_time="21:00")["id"])


Asks = Callable[[World], tuple[str, Any]]


@dataclass(frozen=True)
class Row:
    """A route, the status for each of ROLES, and a call of it that would go through."""

    route: str
    statuses: str
    asks: Asks

    @property
    def method(self) -> str:
        """The method of the route."""
        return self.route.split()[0]

    @property
    def ends_sign_ins(self) -> bool:
        """Whether it changes how the caller signs in."""
        return "/api/v1/me/" in self.route or self.route.endswith("/logout")

    @property
    def is_for_people(self) -> bool:
        """Whether anybody but a service client may call it."""
        return any(self.expected[role] != 403 for role in Role if role is not Role.SERVICE)

    @property
    def expected(self) -> dict[str, int]:
        """Status by role."""
        return dict(zip(ROLES, map(int, self.statuses.split()), strict=True))


def observation(patient_id: str, resource_id: str | None = None) -> dict[str, Any]:
    """An Observation of a patient's."""
    made = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}
    about: dict[str, Any] = {"subject": {"reference": f"Patient/{patient_id}"}}
    return made | about | ({"id": resource_id} if resource_id else {})


def proposed(booking: dict[str, Any]) -> dict[str, Any]:
    """The body of a booking as an Appointment."""
    coding = {"system": "urn:medical-backend:appointment-type", "code": booking["appointment_type_id"]}
    who = (f"Patient/{booking['patient_id']}", f"Practitioner/{booking['clinician_id']}")
    end = datetime.fromisoformat(booking["start"]) + timedelta(minutes=30)
    return {
        "resourceType": "Appointment",
        "status": "proposed",
        "serviceType": [{"coding": [coding]}],
        "start": booking["start"],
        "end": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "participant": [{"actor": {"reference": one}, "status": "accepted"} for one in who],
    }


def parameters(**given: str) -> dict[str, Any]:
    """Parameters of an operation."""
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, "valueString": value} for name, value in given.items()],
    }


WHO = {
    "resourceType": "Parameters",
    "parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "name": [{"family": "Doe"}]}}],
}
CALLED_OFF = Patch([{"op": "replace", "path": "/status", "value": "cancelled"}])
AMENDED = Patch([{"op": "replace", "path": "/status", "value": "amended"}])
PERSON = {"given_name": "Pat", "family_name": "Doe", "birth_date": "1980-05-17"}
CONSENT = {"basis": "consent", "scopes": ["record"]}
PARENT = {"basis": "parent", "scopes": ["record"], "proof": "birth certificate"}
GLASS = {"reason_code": "EMERGENCY", "reason": "found unconscious"}
SOON = {"from": "2030-01-01T00:00:00Z", "to": "2030-02-01T00:00:00Z"}
HOURS = {"weekdays": [1], "start_time": "20:00", "end_time": "21:00"}


def plain(path: str) -> Asks:
    """A call with nothing in it."""
    return lambda _world: (path, None)


# fmt: off
TABLE = [
    #                                                         adm cli nur rec pat aud srv anonymous
    Row("POST /api/v1/auth/login",                           "200 200 200 200 200 200 200 200",
        lambda w: ("/auth/login", {"email": w.email, "password": PASSWORD})),
    Row("POST /api/v1/auth/refresh",                         "401 401 401 401 401 401 401 401",
        lambda w: ("/auth/refresh", {"refresh_token": "not a refresh token"})),
    Row("POST /api/v1/auth/register",                        "201 201 201 201 201 201 201 201",
        lambda w: ("/auth/register", PERSON | {"email": f"new{w.number()}@access.example", "password": PASSWORD})),
    Row("POST /api/v1/auth/logout",                          "204 204 204 204 204 204 403 401",
        plain("/auth/logout")),
    Row("POST /api/v1/auth/step-up",                         "200 200 200 200 200 200 403 401",
        lambda w: ("/auth/step-up", {"password": PASSWORD})),
    Row("POST /api/v1/me/password",                          "204 204 204 204 204 204 403 401",
        lambda w: ("/me/password", {"current_password": PASSWORD, "new_password": PASSWORD})),
    Row("POST /api/v1/me/otp",                               "200 200 200 200 200 200 403 401",
        plain("/me/otp")),
    Row("POST /api/v1/me/otp/confirm",                       "409 409 409 409 409 409 403 401",
        lambda w: ("/me/otp/confirm", {"otp": "no code at"[:10]})),
    Row("POST /api/v1/me/otp/recovery-codes",                "409 409 409 409 409 409 403 401",
        plain("/me/otp/recovery-codes")),
    Row("DELETE /api/v1/me/otp",                             "409 409 409 409 409 409 403 401",
        plain("/me/otp")),
    Row("GET /api/v1/me/sessions",                           "200 200 200 200 200 200 403 401",
        plain("/me/sessions")),
    Row("DELETE /api/v1/me/sessions/{session_id}",           "404 404 404 404 404 404 403 401",
        lambda w: (f"/me/sessions/{w.user()}", None)),
    Row("GET /api/v1/me",                                    "200 200 200 200 200 200 403 401",
        plain("/me")),

    Row("POST /api/v1/users",                                "201 403 403 403 403 403 403 401",
        lambda w: ("/users", {"email": f"user{w.number()}@access.example", "given_name": "U", "family_name": "V",
                              "roles": ["nurse"]})),
    Row("GET /api/v1/users",                                 "200 403 403 403 403 403 403 401",
        plain("/users")),
    Row("GET /api/v1/users/{user_id}",                       "200 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.doctor.id}", None)),
    Row("PATCH /api/v1/users/{user_id}",                     "200 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.doctor.id}", {"given_name": "New"})),
    Row("PUT /api/v1/users/{user_id}/roles",                 "200 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.user()}/roles", {"roles": ["auditor"]})),
    Row("POST /api/v1/users/{user_id}/deactivate",           "200 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.user()}/deactivate", None)),
    Row("GET /api/v1/users/{user_id}/sessions",              "200 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.doctor.id}/sessions", None)),
    Row("DELETE /api/v1/users/{user_id}/sessions",           "204 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.user()}/sessions", None)),
    Row("DELETE /api/v1/users/{user_id}/otp",                "204 403 403 403 403 403 403 401",
        lambda w: (f"/users/{w.enrolled()}/otp", None)),

    Row("POST /api/v1/service-clients",                      "201 403 403 403 403 403 403 401",
        lambda w: ("/service-clients", {"name": "Kiosk", "scopes": ["slot:read"]})),
    Row("GET /api/v1/service-clients",                       "200 403 403 403 403 403 403 401",
        plain("/service-clients")),
    Row("GET /api/v1/service-clients/{client_id}",           "200 403 403 403 403 403 403 401",
        lambda w: (f"/service-clients/{w.client()}", None)),
    Row("PATCH /api/v1/service-clients/{client_id}",         "200 403 403 403 403 403 403 401",
        lambda w: (f"/service-clients/{w.client()}", {"name": "New"})),
    Row("POST /api/v1/service-clients/{client_id}/rotate-secret", "200 403 403 403 403 403 403 401",
        lambda w: (f"/service-clients/{w.client()}/rotate-secret", None)),
    Row("POST /api/v1/service-clients/{client_id}/deactivate", "200 403 403 403 403 403 403 401",
        lambda w: (f"/service-clients/{w.client()}/deactivate", None)),
    Row("POST /api/v1/smart-apps",                           "201 403 403 403 403 403 403 401",
        lambda w: ("/smart-apps", SMART_APP)),
    Row("GET /api/v1/smart-apps",                            "200 200 200 200 200 403 403 401",
        plain("/smart-apps")),
    Row("GET /api/v1/smart-apps/{app_id}",                   "200 200 200 200 200 403 403 401",
        lambda w: (f"/smart-apps/{w.smart_app()['client_id']}", None)),
    Row("PATCH /api/v1/smart-apps/{app_id}",                 "200 403 403 403 403 403 403 401",
        lambda w: (f"/smart-apps/{w.smart_app()['client_id']}", {"name": "New"})),
    Row("POST /api/v1/smart-apps/{app_id}/rotate-secret",    "200 403 403 403 403 403 403 401",
        lambda w: (f"/smart-apps/{w.smart_app()['client_id']}/rotate-secret", None)),
    Row("POST /api/v1/smart-apps/{app_id}/deactivate",       "200 403 403 403 403 403 403 401",
        lambda w: (f"/smart-apps/{w.smart_app()['client_id']}/deactivate", None)),
    Row("POST /api/v1/smart-apps/{app_id}/launches",         "200 200 200 200 200 403 403 401",
        lambda w: (f"/smart-apps/{w.smart_app()['client_id']}/launches", {})),
    Row("GET /oauth/authorize",                              "200 200 200 200 200 200 200 200",
        lambda w: (f"/oauth/authorize?{w.question()}", None)),
    Row("POST /oauth/authorize",                             "200 200 200 200 200 200 200 200",
        lambda w: ("/oauth/authorize", w.browser_sign_in())),
    Row("POST /oauth/authorize/decision",                    "302 302 302 302 302 302 302 302",
        lambda w: ("/oauth/authorize/decision", w.decision())),
    Row("POST /oauth/introspect",                            "400 400 400 400 400 400 400 200",
        lambda w: ("/oauth/introspect", w.about_token())),
    Row("POST /oauth/revoke",                                "400 400 400 400 400 400 400 200",
        lambda w: ("/oauth/revoke", w.about_token())),
    Row("GET /fhir/R4/.well-known/smart-configuration",      "200 200 200 200 200 200 200 200",
        plain("/fhir/R4/.well-known/smart-configuration")),
    # A sign-in of people is no way in which a client proves itself.
    Row("POST /oauth/token",                                 "400 400 400 400 400 400 400 200",
        lambda w: ("/oauth/token", w.token_request())),
    Row("GET /.well-known/oauth-authorization-server",       "200 200 200 200 200 200 200 200",
        plain("/.well-known/oauth-authorization-server")),

    Row("POST /api/v1/clinicians",                           "201 403 403 403 403 403 403 401",
        lambda w: ("/clinicians", {"user_id": w.user(), "specialty": "Surgery", "time_zone": "UTC"})),
    Row("GET /api/v1/clinicians",                            "200 200 200 200 200 403 200 401",
        plain("/clinicians")),
    Row("GET /api/v1/clinicians/{clinician_id}",             "200 200 200 200 200 403 200 401",
        lambda w: (f"/clinicians/{w.doctor.id}", None)),
    Row("POST /api/v1/rooms",                                "201 403 403 403 403 403 403 401",
        lambda w: ("/rooms", {"location_id": w.place["id"], "name": f"Room {w.number()}"})),
    Row("GET /api/v1/rooms",                                 "200 200 200 200 200 403 200 401",
        plain("/rooms")),
    Row("GET /api/v1/rooms/{room_id}",                       "200 200 200 200 200 403 200 401",
        lambda w: (f"/rooms/{w.room['id']}", None)),
    Row("POST /api/v1/devices",                              "201 403 403 403 403 403 403 401",
        lambda w: ("/devices", {"location_id": w.place["id"], "name": f"Device {w.number()}", "kind": "ecg"})),
    Row("GET /api/v1/devices",                               "200 200 200 200 200 403 200 401",
        plain("/devices")),
    Row("GET /api/v1/devices/{device_id}",                   "200 200 200 200 200 403 200 401",
        lambda w: (f"/devices/{w.device['id']}", None)),
    Row("PUT /api/v1/locations/{location_id}/holiday-calendar",
                                                             "200 403 403 403 403 403 403 401",
        lambda w: (f"/locations/{w.place['id']}/holiday-calendar", {"country": "DE"})),
    Row("GET /api/v1/locations/{location_id}/holiday-calendar",
                                                             "200 200 200 200 200 403 200 401",
        lambda w: (f"/locations/{w.place['id']}/holiday-calendar", None)),
    Row("DELETE /api/v1/locations/{location_id}/holiday-calendar",
                                                             "204 403 403 403 403 403 403 401",
        lambda w: (f"/locations/{w.with_calendar()}/holiday-calendar", None)),
    Row("POST /api/v1/locations/{location_id}/holidays",     "201 403 403 403 403 403 403 401",
        lambda w: (f"/locations/{w.place['id']}/holidays", {"day": w.day(), "name": "Outing"})),
    Row("GET /api/v1/locations/{location_id}/holidays",      "200 200 200 200 200 403 200 401",
        lambda w: (f"/locations/{w.place['id']}/holidays", None)),
    Row("GET /api/v1/locations/{location_id}/holidays/{holiday_id}",
                                                             "200 200 200 200 200 403 200 401",
        lambda w: (f"/locations/{w.place['id']}/holidays/{w.holiday()}", None)),
    Row("DELETE /api/v1/locations/{location_id}/holidays/{holiday_id}",
                                                             "204 403 403 403 403 403 403 401",
        lambda w: (f"/locations/{w.place['id']}/holidays/{w.holiday()}", None)),
    Row("POST /api/v1/locations",                            "201 403 403 403 403 403 403 401",
        lambda w: ("/locations", {"name": f"Place {w.number()}", "time_zone": "UTC"})),
    Row("GET /api/v1/locations",                             "200 200 200 200 200 403 200 401",
        plain("/locations")),
    Row("GET /api/v1/locations/{location_id}",               "200 200 200 200 200 403 200 401",
        lambda w: (f"/locations/{w.place['id']}", None)),

    Row("POST /api/v1/patients",                             "201 201 201 201 403 403 201 401",
        lambda w: ("/patients", PERSON | {"sex": "other", "confirm_new": True})),
    Row("GET /api/v1/patients",                              "200 200 200 200 403 403 200 401",
        plain("/patients")),
    Row("GET /api/v1/patients/{patient_id}",                 "200 200 200 200 200 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}", None)),
    Row("GET /api/v1/patients/{patient_id}/duplicates",      "200 200 200 200 403 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/duplicates", None)),
    Row("PATCH /api/v1/patients/{patient_id}",               "200 200 200 200 200 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}", {"phone": "+49 30 901820"})),

    Row("POST /api/v1/patients/{patient_id}/care-relationships", "201 201 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/care-relationships",
                   {"user_id": w.user(), "origin": "referral", "reason": "second opinion", "ends_at": day_after(30)})),
    Row("GET /api/v1/patients/{patient_id}/care-relationships", "200 200 200 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/care-relationships", None)),
    Row("POST /api/v1/patients/{patient_id}/care-relationships/{relationship_id}/end",
                                                             "200 200 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/care-relationships/{w.relationship()}/end", {"reason": "healed"})),
    Row("POST /api/v1/patients/{patient_id}/proxies",        "201 403 403 201 201 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/proxies", CONSENT | {"user_id": w.clinic.user(Role.PATIENT).id})),
    Row("GET /api/v1/patients/{patient_id}/proxies",         "200 200 200 200 200 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/proxies", None)),
    Row("POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/approve", "200 403 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/proxies/{w.approved_by_another()}/approve", None)),
    Row("POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/revoke", "200 403 403 200 200 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/proxies/{w.proxy()}/revoke", {"reason": "divorced"})),
    Row("GET /api/v1/me/proxies",                            "200 200 200 200 200 403 403 401",
        plain("/me/proxies")),
    Row("GET /api/v1/organization",                          "200 200 200 200 200 403 200 401",
        plain("/organization")),
    Row("PATCH /api/v1/organization",                        "200 403 403 403 403 403 403 401",
        lambda w: ("/organization", {"proxy_age_limit": 16})),
    Row("POST /api/v1/patients/{patient_id}/break-glass",    "403 201 201 403 403 403 403 401",
        lambda w: (f"/patients/{w.stranger()['id']}/break-glass", GLASS)),
    Row("GET /api/v1/break-glass/reviews",                   "403 200 403 403 403 200 403 401",
        plain("/break-glass/reviews")),
    Row("POST /api/v1/break-glass/{grant_id}/review",        "403 200 403 403 403 200 403 401",
        lambda w: (f"/break-glass/{w.broken_glass()}/review", {"outcome": "justified", "comment": "it was"})),
    Row("GET /api/v1/access/explain",                        "200 403 403 403 403 200 403 401",
        lambda w: (f"/access/explain?user_id={w.doctor.id}&permission=patient:read", None)),

    Row("POST /api/v1/appointment-types",                    "201 403 403 403 403 403 403 401",
        lambda w: ("/appointment-types", {"name": f"Kind {w.number()}", "duration_minutes": 15})),
    Row("GET /api/v1/appointment-types",                     "200 200 200 200 200 403 200 401",
        plain("/appointment-types")),
    Row("GET /api/v1/appointment-types/{type_id}",           "200 200 200 200 200 403 200 401",
        lambda w: (f"/appointment-types/{w.kind['id']}", None)),

    Row("POST /api/v1/availabilities",                       "201 201 403 201 403 403 201 401",
        lambda w: ("/availabilities", HOURS | {"clinician_id": w.doctor.id})),
    Row("GET /api/v1/availabilities",                        "200 200 200 200 403 403 200 401",
        plain("/availabilities")),
    Row("GET /api/v1/availabilities/{availability_id}",      "200 200 200 200 403 403 200 401",
        lambda w: (f"/availabilities/{w.availability['id']}", None)),
    Row("PATCH /api/v1/availabilities/{availability_id}",    "200 200 403 200 403 403 200 401",
        lambda w: (f"/availabilities/{w.hours()}", {"end_time": "22:00"})),
    Row("DELETE /api/v1/availabilities/{availability_id}",   "204 204 403 204 403 403 204 401",
        lambda w: (f"/availabilities/{w.hours()}", None)),

    Row("POST /api/v1/openings",                             "201 201 403 201 403 403 201 401",
        lambda w: ("/openings", w.far_away())),
    Row("GET /api/v1/openings",                              "200 200 200 200 403 403 200 401",
        plain("/openings")),
    Row("GET /api/v1/openings/{opening_id}",                 "200 200 200 200 403 403 200 401",
        lambda w: (f"/openings/{w.one_off('openings')}", None)),
    Row("DELETE /api/v1/openings/{opening_id}",              "204 204 403 204 403 403 204 401",
        lambda w: (f"/openings/{w.one_off('openings')}", None)),
    Row("POST /api/v1/time-offs",                            "201 201 403 201 403 403 201 401",
        lambda w: ("/time-offs", w.far_away())),
    Row("GET /api/v1/time-offs",                             "200 200 200 200 403 403 200 401",
        plain("/time-offs")),
    Row("GET /api/v1/time-offs/{time_off_id}",               "200 200 200 200 403 403 200 401",
        lambda w: (f"/time-offs/{w.one_off('time-offs')}", None)),
    Row("DELETE /api/v1/time-offs/{time_off_id}",            "204 204 403 204 403 403 204 401",
        lambda w: (f"/time-offs/{w.one_off('time-offs')}", None)),
    Row("GET /api/v1/slots/explain",                         "200 200 200 200 403 403 200 401",
        lambda w: (f"/slots/explain?appointment_type_id={w.kind['id']}&clinician_id={w.doctor.id}"
                   "&start=2030-01-01T00:00:00Z", None)),
    Row("GET /api/v1/slots",                                 "200 200 200 200 200 403 200 401",
        lambda w: (f"/slots?appointment_type_id={w.kind['id']}&from=2030-01-01T00:00:00Z&to=2030-01-02T00:00:00Z",
                   None)),
    Row("POST /api/v1/appointments",                         "201 201 201 201 201 403 201 401",
        lambda w: ("/appointments", w.booking())),
    Row("GET /api/v1/appointments",                          "200 200 200 200 200 403 200 401",
        plain("/appointments")),
    Row("GET /api/v1/appointments/{appointment_id}",         "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment()}", None)),
    Row("GET /api/v1/appointments/{appointment_id}/history", "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment()}/history", None)),
    Row("POST /api/v1/appointments/{appointment_id}/cancel", "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment()}/cancel", {"reason": "better again"})),
    Row("POST /api/v1/appointments/{appointment_id}/reschedule", "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment()}/reschedule", {"start": w.free()})),
    Row("POST /api/v1/appointments/{appointment_id}/check-in", "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment('begin')}/check-in", None)),
    Row("POST /api/v1/appointments/{appointment_id}/start",  "200 200 200 403 403 403 403 401",
        lambda w: (f"/appointments/{w.appointment('begin', 'check-in')}/start", None)),
    Row("POST /api/v1/appointments/{appointment_id}/complete", "200 200 200 403 403 403 403 401",
        lambda w: (f"/appointments/{w.appointment('begin', 'check-in', 'start')}/complete", None)),
    Row("POST /api/v1/appointments/{appointment_id}/no-show", "200 200 200 200 403 403 404 401",
        lambda w: (f"/appointments/{w.appointment('begin')}/no-show", None)),
    Row("POST /api/v1/appointments/{appointment_id}/arrive", "200 200 200 200 200 403 404 401",
        lambda w: (f"/appointments/{w.appointment('begin')}/arrive", None)),
    Row("POST /api/v1/appointments/{appointment_id}/approve", "200 200 200 200 403 403 403 401",
        lambda w: (f"/appointments/{w.request()}/approve", None)),
    Row("POST /api/v1/appointments/{appointment_id}/decline", "200 200 200 200 403 403 403 401",
        lambda w: (f"/appointments/{w.request()}/decline", {"reason": "no need"})),
    Row("POST /api/v1/appointments/{appointment_id}/reinstate", "200 200 200 200 403 403 403 401",
        lambda w: (f"/appointments/{w.appointment('cancel')}/reinstate", {"reason": "by mistake"})),
    Row("POST /api/v1/appointments/{appointment_id}/enter-in-error", "200 200 200 200 403 403 403 401",
        lambda w: (f"/appointments/{w.appointment()}/enter-in-error", {"reason": "the other Ann"})),
    Row("POST /api/v1/appointments/overbook",                "201 201 201 201 403 403 403 401",
        lambda w: ("/appointments/overbook", w.booking() | {"overbook_reason": "in pain"})),
    Row("POST /api/v1/holds",                                "201 201 201 201 201 403 201 401",
        lambda w: ("/holds", w.holding())),
    Row("DELETE /api/v1/holds/{hold_id}",                    "404 404 404 404 404 403 404 401",
        lambda w: (f"/holds/{w.user()}", None)),
    Row("POST /api/v1/waitlist",                             "201 201 201 201 201 403 201 401",
        lambda w: ("/waitlist", w.waiting())),
    Row("GET /api/v1/waitlist",                              "200 200 200 200 200 403 200 401",
        plain("/waitlist")),
    Row("GET /api/v1/waitlist/{entry_id}",                   "200 404 200 200 200 403 404 401",
        lambda w: (f"/waitlist/{w.entry()}", None)),
    Row("POST /api/v1/waitlist/{entry_id}/accept",           "200 404 200 200 200 403 404 401",
        lambda w: (f"/waitlist/{w.offered()}/accept", None)),
    Row("POST /api/v1/waitlist/{entry_id}/decline",          "200 404 200 200 200 403 404 401",
        lambda w: (f"/waitlist/{w.offered()}/decline", None)),
    Row("POST /api/v1/waitlist/{entry_id}/withdraw",         "200 404 200 200 200 403 404 401",
        lambda w: (f"/waitlist/{w.entry()}/withdraw", None)),
    Row("POST /api/v1/series",                               "201 201 201 201 201 403 201 401",
        lambda w: ("/series", w.recurring())),
    Row("GET /api/v1/series/{series_id}",                    "200 200 200 200 200 403 404 401",
        lambda w: (f"/series/{w.series()}", None)),
    Row("POST /api/v1/series/{series_id}/reschedule",        "200 200 200 200 200 403 404 401",
        lambda w: (f"/series/{w.series()}/reschedule", {"from_occurrence": 1, "start": w.free()})),
    Row("POST /api/v1/series/{series_id}/cancel",            "200 200 200 200 200 403 404 401",
        lambda w: (f"/series/{w.series()}/cancel", {"from_occurrence": 1, "reason": "flu"})),

    Row("POST /api/v1/calendar-feeds",                       "201 201 201 201 201 403 403 401",
        lambda w: ("/calendar-feeds", {"patient_id": w.patient["id"]})),
    Row("GET /api/v1/calendar-feeds",                        "200 200 200 200 200 403 403 401",
        plain("/calendar-feeds")),
    Row("GET /api/v1/calendar-feeds/{feed_id}",              "200 404 404 404 404 403 403 401",
        lambda w: (f"/calendar-feeds/{w.feed()['id']}", None)),
    Row("DELETE /api/v1/calendar-feeds/{feed_id}",           "204 404 404 404 404 403 403 401",
        lambda w: (f"/calendar-feeds/{w.feed()['id']}", None)),
    Row("GET /api/v1/calendars/{secret}.ics",                "200 200 200 200 200 200 200 200",
        lambda w: ("/calendars/" + w.feed()["url"].rpartition("/")[2], None)),

    Row("POST /api/v1/patients/{patient_id}/vitals",         "403 201 201 403 403 403 201 401",
        lambda w: (f"/patients/{w.patient['id']}/vitals", {"readings": [{"kind": "heart_rate", "value": 70}]})),
    Row("POST /api/v1/patients/{patient_id}/notes",          "403 201 201 403 403 403 201 401",
        lambda w: (f"/patients/{w.patient['id']}/notes", {"title": "Visit", "text": "cough"})),
    Row("GET /api/v1/patients/{patient_id}/notes/{note_id}", "403 200 200 403 200 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/notes/{w.note()}", None)),
    Row("POST /api/v1/patients/{patient_id}/notes/{note_id}/sign", "403 409 409 403 403 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/notes/{w.note()}/sign", None)),
    Row("POST /api/v1/patients/{patient_id}/notes/{note_id}/amend", "403 201 201 403 403 403 201 401",
        lambda w: (f"/patients/{w.patient['id']}/notes/{w.note(signed=True)}/amend", {"text": "flu", "reason": "x"})),
    Row("GET /api/v1/patients/{patient_id}/timeline",        "403 200 200 403 200 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/timeline", None)),
    Row("GET /api/v1/patients/{patient_id}/{kind}",          "403 200 200 403 200 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/problems", None)),
    Row("POST /api/v1/patients/{patient_id}/reconciliation", "403 200 200 403 403 403 200 401",
        lambda w: (f"/patients/{w.patient['id']}/reconciliation", {"allergies": [{"name": "latex"}]})),

    Row("GET /fhir/R4/metadata",                             "200 200 200 200 200 200 200 200",
        plain("/fhir/R4/metadata")),
    Row("POST /fhir/R4",                                     "403 200 200 403 200 403 200 401",
        lambda _: ("/fhir/R4", {"resourceType": "Bundle", "type": "batch"})),
    Row("POST /fhir/R4/{type_name}",                         "403 201 201 403 403 403 201 401",
        lambda w: ("/fhir/R4/Observation", observation(w.patient["id"]))),
    Row("GET /fhir/R4/{type_name}",                          "403 200 200 403 200 403 200 401",
        plain("/fhir/R4/Observation")),
    Row("GET /fhir/R4/Appointment",                          "200 200 200 200 200 403 200 401",
        plain("/fhir/R4/Appointment")),
    Row("POST /fhir/R4/Appointment/_search",                 "200 200 200 200 200 403 200 401",
        lambda _: ("/fhir/R4/Appointment/_search", Form({"_count": "1"}))),
    Row("POST /fhir/R4/Appointment",                         "201 201 201 201 201 403 201 401",
        lambda w: ("/fhir/R4/Appointment", w.proposal())),
    Row("GET /fhir/R4/Appointment/{appointment_id}",         "200 200 200 200 200 403 404 401",
        lambda w: (f"/fhir/R4/Appointment/{w.appointment()}", None)),
    Row("GET /fhir/R4/Appointment/{appointment_id}/_history", "200 200 200 200 200 403 404 401",
        lambda w: (f"/fhir/R4/Appointment/{w.appointment()}/_history", None)),
    Row("PUT /fhir/R4/Appointment/{appointment_id}",         "200 200 200 200 200 403 404 401",
        lambda w: (f"/fhir/R4/Appointment/{(own := w.appointment())}", w.cancelled(own))),
    Row("PATCH /fhir/R4/Appointment/{appointment_id}",       "200 200 200 200 200 403 404 401",
        lambda w: (f"/fhir/R4/Appointment/{w.appointment()}", CALLED_OFF)),
    Row("GET /fhir/R4/Appointment/$find",                    "200 200 200 200 200 403 200 401",
        lambda w: (f"/fhir/R4/Appointment/$find?start=2030-01-01&end=2030-01-02&visit-type={w.kind['id']}", None)),
    Row("POST /fhir/R4/Appointment/$find",                   "200 200 200 200 200 403 200 401",
        lambda w: ("/fhir/R4/Appointment/$find", parameters(**{
            "start": "2030-01-01", "end": "2030-01-02", "visit-type": w.kind["id"]}))),
    Row("POST /fhir/R4/Appointment/$hold",                   "200 200 200 200 200 403 200 401",
        lambda w: ("/fhir/R4/Appointment/$hold", parameters(**{"appointment-reference": w.slot()}))),
    Row("POST /fhir/R4/Appointment/$book",                   "200 200 200 200 200 403 200 401",
        lambda w: ("/fhir/R4/Appointment/$book", parameters(**{
            "appointment-reference": w.slot(), "patient-reference": f"Patient/{w.patient['id']}"}))),
    Row("GET /fhir/R4/Slot",                                 "200 200 200 200 200 403 200 401",
        lambda w: (f"/fhir/R4/Slot?schedule={w.doctor.id}&service-type={w.kind['id']}", None)),
    Row("POST /fhir/R4/Slot/_search",                        "200 200 200 200 200 403 200 401",
        lambda w: ("/fhir/R4/Slot/_search", Form({"service-type": w.kind["id"]}))),
    Row("GET /fhir/R4/Slot/{slot_id}",                       "200 200 200 200 200 403 200 401",
        lambda w: (f"/fhir/R4/Slot/{w.slot()}", None)),
    Row("GET /fhir/R4/Schedule",                             "200 200 200 200 200 403 200 401",
        plain("/fhir/R4/Schedule")),
    Row("GET /fhir/R4/Schedule/{clinician_id}",              "200 200 200 200 200 403 200 401",
        lambda w: (f"/fhir/R4/Schedule/{w.doctor.id}", None)),
    Row("PUT /fhir/R4/{type_name}",                          "403 200 200 403 403 403 200 401",
        lambda w: (f"/fhir/R4/Observation?_id={(own := w.resource())}", observation(w.patient["id"], own))),
    Row("PATCH /fhir/R4/{type_name}",                        "403 200 200 403 403 403 200 401",
        lambda w: (f"/fhir/R4/Observation?_id={w.resource()}", AMENDED)),
    Row("DELETE /fhir/R4/{type_name}",                       "403 204 403 403 403 403 204 401",
        lambda w: (f"/fhir/R4/Observation?_id={w.resource()}", None)),
    Row("GET /fhir/R4/_history",                             "403 200 200 403 200 403 200 401",
        plain("/fhir/R4/_history")),
    Row("GET /fhir/R4/{type_name}/_history",                 "403 200 200 403 200 403 200 401",
        plain("/fhir/R4/Observation/_history")),
    Row("GET /fhir/R4/Patient/{fhir_id}/$everything",        "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Patient/{w.patient['id']}/$everything", None)),
    Row("GET /fhir/R4/Patient/{fhir_id}/$summary",           "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Patient/{w.patient['id']}/$summary", None)),
    Row("POST /fhir/R4/Patient/$match",                      "403 200 200 403 200 403 200 401",
        lambda _: ("/fhir/R4/Patient/$match", WHO)),
    Row("GET /fhir/R4/{owner_type}/{owner_id}/{type_name}",  "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Patient/{w.patient['id']}/Observation", None)),
    Row("POST /fhir/R4/{owner_type}/{owner_id}/{type_name}/_search", "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Patient/{w.patient['id']}/Observation/_search", Form({"status": "final"}))),
    Row("POST /api/v1/patients/{patient_id}/merges",         "201 403 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/merges", w.twin())),
    Row("GET /api/v1/patients/{patient_id}/merges",          "200 403 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/merges", None)),
    Row("POST /api/v1/patients/{patient_id}/merges/{merge_id}/undo", "200 403 403 403 403 403 403 401",
        lambda w: (f"/patients/{w.patient['id']}/merges/{w.merge()}/undo", None)),
    Row("GET /fhir/R4/$export",                              "403 403 403 403 403 403 202 401",
        lambda w: (f"/fhir/R4/$export{w.no_exports()}", None)),
    Row("GET /fhir/R4/Patient/$export",                      "403 403 403 403 403 403 202 401",
        lambda w: (f"/fhir/R4/Patient/$export{w.no_exports()}", None)),
    Row("GET /fhir/R4/Group/{fhir_id}/$export",              "403 403 403 403 403 403 202 401",
        lambda w: (f"/fhir/R4/Group/{w.group()}/$export{w.no_exports()}", None)),
    Row("GET /fhir/R4/$export/{export_id}",                  "403 403 403 403 403 403 200 401",
        lambda w: (f"/fhir/R4/$export/{w.export()}", None)),
    Row("DELETE /fhir/R4/$export/{export_id}",               "403 403 403 403 403 403 202 401",
        lambda w: (f"/fhir/R4/$export/{w.export()}", None)),
    Row("GET /fhir/R4/$export/{export_id}/{number}.ndjson",  "403 403 403 403 403 403 200 401",
        lambda w: (f"/fhir/R4/$export/{w.export()}/1.ndjson", None)),
    Row("POST /fhir/R4/{type_name}/_search",                 "403 200 200 403 200 403 200 401",
        lambda _: ("/fhir/R4/Observation/_search", Form({"status": "final"}))),
    Row("POST /fhir/R4/{type_name}/$validate",               "403 200 200 403 200 403 200 401",
        lambda w: ("/fhir/R4/Observation/$validate", observation(w.patient["id"]))),
    Row("GET /fhir/R4/{type_name}/{fhir_id}",                "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Observation/{w.resource()}", None)),
    Row("PUT /fhir/R4/{type_name}/{fhir_id}",                "403 200 200 403 403 403 200 401",
        lambda w: (f"/fhir/R4/Observation/{(own := w.resource())}", observation(w.patient["id"], own))),
    Row("PATCH /fhir/R4/{type_name}/{fhir_id}",              "403 200 200 403 403 403 200 401",
        lambda w: (f"/fhir/R4/Observation/{w.resource()}", AMENDED)),
    Row("DELETE /fhir/R4/{type_name}/{fhir_id}",             "403 204 403 403 403 403 204 401",
        lambda w: (f"/fhir/R4/Observation/{w.resource()}", None)),
    Row("GET /fhir/R4/{type_name}/{fhir_id}/_history",       "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Observation/{w.resource()}/_history", None)),
    Row("GET /fhir/R4/{type_name}/{fhir_id}/_history/{version}", "403 200 200 403 200 403 200 401",
        lambda w: (f"/fhir/R4/Observation/{w.resource()}/_history/1", None)),

    Row("GET /api/v1/audit/events",                          "403 403 403 403 403 200 403 401",
        plain("/audit/events")),
    Row("GET /api/v1/audit/verify",                          "403 403 403 403 403 200 403 401",
        plain("/audit/verify")),
    Row("GET /api/v1/patients/{patient_id}/access-log",      "403 403 403 403 200 200 403 401",
        lambda w: (f"/patients/{w.patient['id']}/access-log", None)),

    Row("GET /.well-known/jwks.json",                        "200 200 200 200 200 200 200 200",
        plain("/.well-known/jwks.json")),
    Row("GET /health/live",                                  "200 200 200 200 200 200 200 200",
        plain("/health/live")),
    Row("GET /health/ready",                                 "200 200 200 200 200 200 200 200",
        plain("/health/ready")),
    Row("GET /metrics",                                      "200 200 200 200 200 200 200 200",
        plain("/metrics")),
    Row("GET /api/openapi.json",                             "200 200 200 200 200 200 200 200",
        plain("/api/openapi.json")),
    Row("GET /api/docs",                                     "200 200 200 200 200 200 200 200",
        plain("/api/docs")),
    Row("GET /api/docs/{name}",                              "200 200 200 200 200 200 200 200",
        plain("/api/docs/start.js")),
]
# fmt: on


@pytest.fixture(scope="module")
def world(app: Flask, open_clinic: Clinic) -> World:
    """One for all the rows."""
    return World(app, open_clinic)


@pytest.fixture(scope="module")
def stranger(app: Flask) -> Caller:
    """Somebody who may do everything, elsewhere."""
    return Clinic(app).user(*STAFF)


@pytest.fixture(scope="module")
def strict(app: Flask, database_url: str) -> Iterator[Flask]:
    """The same program, where administrators must have a second factor."""
    settings = {"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST}
    strict = create_app(settings | {"require_otp_for": frozenset({"admin"})})
    yield strict
    with strict.app_context():
        db.engine.dispose()


CELLS = [
    pytest.param(row, role, status, id=f"{role} {row.route}") for row in TABLE for role, status in row.expected.items()
]


def route_of(rule: Rule, method: str) -> str:
    """A route as the table writes it."""
    path = re.sub(r"<(?:[^<>]*?:)?(\w+)>", r"{\1}", rule.rule)
    return f"{method} {path}"


def test_every_route_is_in_the_table_and_nothing_else(app: Flask) -> None:
    """A new route fails here until somebody has decided who may call it."""
    declared = {route_of(rule, method) for rule, method, _ in declared_routes(app)}
    assert declared == {row.route for row in TABLE}
    assert len(TABLE) == len(declared)
    assert [*Role, ANONYMOUS] == ROLES


@pytest.mark.parametrize(("row", "role", "status"), CELLS)
def test_a_role_gets_what_the_table_says(world: World, row: Row, role: str, status: int) -> None:
    """The same call for all, which only the caller's role decides."""
    path, body = row.asks(world)
    answer = world.caller(role, once=row.ends_sign_ins).call(row.method, path, body)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert '"forbidden"' in answer.text, "refused for the permission, not for the matter"


def test_the_table_agrees_with_the_policy(app: Flask) -> None:
    """403 stands exactly where no permission does, 401 exactly where a stranger may not call."""
    rows = {row.route: row.expected for row in TABLE}
    for rule, method, declaration in declared_routes(app):
        expected = rows[route_of(rule, method)]
        refused = {role for role in Role if expected[role] == 403}
        if declaration.permission is None:
            assert refused == set()
        else:
            held = access.POLICY | {Role.SERVICE: grantable()}
            assert refused == {role for role in Role if declaration.permission not in held[role]}
            assert expected[ANONYMOUS] == 401


STEP_UP = [
    "DELETE /api/v1/me/otp",
    "POST /api/v1/me/otp",
    "POST /api/v1/me/otp/confirm",
    "POST /api/v1/me/otp/recovery-codes",
    "PATCH /api/v1/organization",
    "POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/approve",
    "POST /api/v1/users",
    "PUT /api/v1/users/{user_id}/roles",
    "POST /api/v1/users/{user_id}/deactivate",
    "DELETE /api/v1/users/{user_id}/otp",
    "POST /api/v1/service-clients",
    "PATCH /api/v1/service-clients/{client_id}",
    "POST /api/v1/service-clients/{client_id}/rotate-secret",
    "POST /api/v1/service-clients/{client_id}/deactivate",
    "POST /api/v1/patients/{patient_id}/merges",
    "POST /api/v1/patients/{patient_id}/merges/{merge_id}/undo",
    "POST /api/v1/smart-apps",
    "PATCH /api/v1/smart-apps/{app_id}",
    "POST /api/v1/smart-apps/{app_id}/rotate-secret",
    "POST /api/v1/smart-apps/{app_id}/deactivate",
]
"""Sensitive acts: who asks for them has proved who they are within five minutes."""


def test_every_sensitive_act_is_on_the_list(app: Flask) -> None:
    """And nothing else asks for a fresh proof."""
    fresh = {route_of(rule, method) for rule, method, declaration in declared_routes(app) if declaration.step_up}
    assert fresh == set(STEP_UP)


@pytest.mark.parametrize("route", STEP_UP)
def test_a_sensitive_act_needs_a_fresh_proof(world: World, route: str) -> None:
    """Four minutes are fresh, six are not (AUTH-10)."""
    row = next(row for row in TABLE if row.route == route)
    admin = world.callers[Role.ADMIN].user_id
    assert admin
    path, body = row.asks(world)
    stale = world.clinic.signed_in(admin, minutes_ago=6).call(row.method, path, body)
    assert (stale.status_code, stale.get_json()["code"]) == (401, "step_up_required")
    assert "insufficient_user_authentication" in stale.headers["WWW-Authenticate"]
    fresh = world.clinic.signed_in(admin, minutes_ago=4).call(row.method, path, body)
    assert fresh.status_code == row.expected["admin"]


class TestSecondFactorDue:
    """A role demands a second factor, and the sign-in has none (AUTH-06)."""

    @pytest.mark.parametrize(
        "row",
        [row for row in TABLE if row.expected[ANONYMOUS] == 401 != row.expected["admin"] and row.is_for_people],
        ids=lambda row: row.route,
    )
    def test_only_ones_own_sign_in_is_open(self, world: World, strict: Flask, row: Row) -> None:
        """Nothing of the clinic is seen or changed before it is enrolled."""
        path, body = row.asks(world)
        caller = world.clinic.user(*STAFF, password=PASSWORD)
        answer = Caller(strict, caller.token).call(row.method, path, body)
        if f"{row.route} ".startswith(OWN_SIGN_IN):
            assert answer.status_code == row.expected["admin"]
        else:
            assert answer.status_code == 403
            assert '"second_factor_required"' in answer.text


OWN_SIGN_IN = (
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/step-up",
    "GET /api/v1/me ",
    "GET /api/v1/me/sessions ",
    "POST /api/v1/me/",
    "DELETE /api/v1/me/",
)
"""What a caller does about their own sign-in."""


class TestAnotherOrganisation:
    """What belongs to another organisation is not there; in paths, tests/system/test_subjects.py shows so."""

    def test_its_ids_are_404_in_bodies_too(self, world: World, app: Flask) -> None:
        """A booking, hours, a clinician: no reference leads across."""
        other = Clinic(app)
        doctor, kind, patient = other.clinician(time_zone="UTC"), other.appointment_type(), other.patient()
        other.hours(doctor)
        own = other.booking(patient, doctor, kind, world.free())
        foreign = {
            "patient_id": world.patient["id"],
            "clinician_id": world.doctor.id,
            "appointment_type_id": world.kind["id"],
        }
        hours = HOURS | {"clinician_id": doctor.id}
        clinician = {"specialty": "Surgery", "time_zone": "UTC"}
        asked = [
            *[("/appointments", own | {name: value}) for name, value in foreign.items()],
            ("/availabilities", hours | {"clinician_id": world.doctor.id}),
            ("/availabilities", hours | {"location_id": world.place["id"]}),
            ("/availabilities", hours | {"appointment_type_ids": [world.kind["id"]]}),
            ("/clinicians", clinician | {"user_id": world.user()}),
            ("/clinicians", clinician | {"user_id": other.user(Role.NURSE).id, "location_id": world.place["id"]}),
        ]
        assert [other.admin.post(path, body).status_code for path, body in asked] == [404] * len(asked)
        assert other.admin.post("/appointments", own).status_code == 201
        assert other.admin.post("/availabilities", hours).status_code == 201

    def test_its_ids_find_nothing_in_queries(self, world: World, stranger: Caller) -> None:
        """A filter by somebody else's id is an empty list; a slot search by it finds no such type."""
        appointment = world.appointment()
        for path, query in [
            ("/appointments", {"patient_id": world.patient["id"]}),
            ("/appointments", {"clinician_id": world.doctor.id}),
            ("/availabilities", {"clinician_id": world.doctor.id}),
            ("/clinicians", {"location_id": world.place["id"]}),
            ("/patients", {"q": world.patient["mrn"]}),
        ]:
            assert stranger.get(path, **query).get_json()["items"] == []
        assert world.clinic.admin.get("/patients", q=world.patient["mrn"]).get_json()["items"]
        assert world.clinic.admin.get(f"/appointments/{appointment}").status_code == 200
