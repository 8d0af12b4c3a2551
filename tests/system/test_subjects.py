"""Whose things: every route that names a thing, for every role, by what the thing is to the caller."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from medical.fhir.slots import Key, id_of
from medical.identity.permissions import Role
from medical.people.models import Patient
from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, second_factor
from tests.system.test_access import GLASS, PARENT, ROLES, TABLE, Row, World, observation

OWN, RELATED, UNRELATED, FOREIGN, ABSENT = range(5)
"""What the thing is to the caller: their own; of somebody they care or act for, or a colleague's; of somebody else
in the organisation; of another organisation; of nobody."""
OF_THE_CALL = {"request_id": None, "id": None, "meta": None}
"""What differs between two answers that say the same."""
NAMES = ["own", "related", "unrelated", "foreign", "absent"]


class Circle:
    """One caller for each role, with a record of their own, somebody they care or act for, and a stranger."""

    def __init__(self, app: Flask, world: World) -> None:
        self.app, self.world, self.clinic = app, world, world.clinic
        self.elsewhere = World(app, world.open_clinic)
        self.callers = {role: self._caller(role) for role in Role}
        self.colleague = self.clinic.clinician(time_zone="UTC")
        self.clinic.hours(self.colleague)
        stranger, foreign = self.clinic.patient(), self.elsewhere.patient
        self.patients = {
            role: [self._own(role), self._related(role), stranger, foreign, {"id": str(uuid4())}] for role in Role
        }

    def _caller(self, role: Role) -> Caller:
        if role is Role.SERVICE:
            return self.clinic.program(client=self.world.program)
        if role is Role.CLINICIAN:
            doctor = self.clinic.clinician(time_zone="UTC")
            self.clinic.hours(doctor)
            return doctor
        return self.clinic.user(role)

    def _own(self, role: Role) -> dict[str, Any]:
        """A record with the caller's account; of a program, which has none, anybody's."""
        patient, caller = self.clinic.patient(), self.callers[role]
        if role is not Role.SERVICE:
            with self.app.app_context(), scoped(Scope(self.clinic.organization_id)):
                db.session.get_one(Patient, UUID(patient["id"])).user_id = caller.user_id
                db.session.commit()
        return patient

    def _related(self, role: Role) -> dict[str, Any]:
        """Somebody the caller cares for, or who named them to act for them; for others a patient like all."""
        caller = self.callers[role]
        if role in (Role.CLINICIAN, Role.NURSE):
            patient = self.clinic.patient()
            self.clinic.relate(patient, caller)
        elif role is Role.PATIENT:
            patient, themselves = self.clinic.patient_with_account()
            body = {"user_id": caller.id, "basis": "consent", "scopes": ["record", "appointments"]}
            assert themselves.post(f"/patients/{patient['id']}/proxies", body).status_code == 201
        else:
            patient = self.clinic.patient()
        return patient

    # What the routes name: the values of the parts of the path.

    def patient(self, role: Role, subject: int) -> dict[str, str]:
        """A patient."""
        return {"patient_id": self.patients[role][subject]["id"]}

    def patient_list(self, role: Role, subject: int) -> dict[str, str]:
        """A list of the patient's record."""
        return self.patient(role, subject) | {"kind": "problems"}

    def relationship(self, role: Role, subject: int) -> dict[str, str]:
        """A relationship of the patient with somebody."""
        parts = self.patient(role, subject)
        if subject < FOREIGN:
            made = self.clinic.relate(self.patients[role][subject], self.clinic.user(Role.NURSE))
            return parts | {"relationship_id": made["id"]}
        return parts | {"relationship_id": self.elsewhere.relationship() if subject == FOREIGN else str(uuid4())}

    def proxy(self, role: Role, subject: int) -> dict[str, str]:
        """A proxy of the patient that waits, proposed by the desk."""
        parts = self.patient(role, subject)
        if subject < FOREIGN:
            body = PARENT | {"user_id": self.clinic.user(Role.PATIENT).id}
            path = f"/patients/{parts['patient_id']}/proxies"
            made = self.world.callers[Role.RECEPTIONIST].post(path, body)
            assert made.status_code == 201, made.text
            return parts | {"proxy_id": made.get_json()["id"]}
        return parts | {"proxy_id": self.elsewhere.proxy() if subject == FOREIGN else str(uuid4())}

    def grant(self, role: Role, subject: int) -> dict[str, str]:
        """A broken glass: one's own, or somebody's."""
        if subject < FOREIGN:
            asks = self.callers[role] if subject == OWN and role is Role.CLINICIAN else self.clinic.user(Role.NURSE)
            made = asks.post(f"/patients/{self.clinic.patient()['id']}/break-glass", GLASS)
            return {"grant_id": made.get_json()["id"]}
        return {"grant_id": self.elsewhere.broken_glass() if subject == FOREIGN else str(uuid4())}

    def account(self, role: Role, subject: int) -> dict[str, str]:
        """A user: the caller, or somebody with a second factor."""
        if subject == FOREIGN:
            return {"user_id": self.elsewhere.enrolled()}
        if subject == ABSENT:
            return {"user_id": str(uuid4())}
        user = self.clinic.user(role) if subject == OWN and role is not Role.SERVICE else self.clinic.user(Role.NURSE)
        second_factor(user)
        return {"user_id": user.id}

    def client(self, role: Role, subject: int) -> dict[str, str]:
        """A service client: the caller itself, or another one."""
        if subject == OWN and role is Role.SERVICE:
            return {"client_id": self.callers[role].id}
        if subject < FOREIGN:
            return {"client_id": self.world.client()}
        return {"client_id": self.elsewhere.client() if subject == FOREIGN else str(uuid4())}

    def merge(self, role: Role, subject: int) -> dict[str, str]:
        """A merge of the patient."""
        parts = self.patient(role, subject)
        if subject < FOREIGN:
            made = self.clinic.admin.post(f"/patients/{parts['patient_id']}/merges", self.world.twin())
            return parts | {"merge_id": made.get_json()["id"]}
        return parts | {"merge_id": self.elsewhere.merge() if subject == FOREIGN else str(uuid4())}

    def export(self, role: Role, subject: int) -> dict[str, str]:
        """An export of the caller's, or of another program's."""
        if subject == ABSENT:
            return {"export_id": str(uuid4())}
        if subject == OWN and role is Role.SERVICE:
            return {"export_id": self._exported(self.world, self.callers[role])}
        world = self.elsewhere if subject == FOREIGN else self.world
        return {"export_id": self._exported(world, world.clinic.program())}

    def _exported(self, world: World, program: Caller) -> str:
        answer = program.get("/fhir/R4/$export", _type="Patient")
        world.no_exports()
        return answer.headers["Content-Location"].rpartition("/")[2]

    def exported_file(self, role: Role, subject: int) -> dict[str, str]:
        """A file of an export."""
        return self.export(role, subject) | {"number": "1"}

    def group(self, _role: Role, subject: int) -> dict[str, str]:
        """A Group."""
        self.world.no_exports()
        return {"fhir_id": self._new(subject, World.group)}

    def smart_app(self, role: Role, subject: int) -> dict[str, str]:
        """An app."""
        if subject == ABSENT:
            return {"app_id": str(uuid4())}
        return {"app_id": (self.elsewhere if subject == FOREIGN else self.world).smart_app()["client_id"]}

    def session(self, role: Role, subject: int) -> dict[str, str]:
        """A sign-in of the caller, or of somebody else."""
        if subject == ABSENT:
            return {"session_id": str(uuid4())}
        clinic = self.elsewhere.clinic if subject == FOREIGN else self.clinic
        whose = self.callers[role] if subject == OWN and role is not Role.SERVICE else clinic.user(Role.NURSE)
        assert whose.user_id
        fresh = clinic.signed_in(whose.user_id)
        sessions = fresh.get("/me/sessions").get_json()["items"]
        return {"session_id": next(one["id"] for one in sessions if one["current"])}

    def clinician(self, role: Role, subject: int) -> dict[str, str]:
        """A clinician: the caller, or a colleague."""
        return {"clinician_id": self._clinician(role, subject)}

    def _clinician(self, role: Role, subject: int) -> str:
        own = self.callers[Role.CLINICIAN] if role is Role.CLINICIAN else self.colleague
        return [own.id, self.colleague.id, self.colleague.id, self.elsewhere.doctor.id, str(uuid4())][subject]

    def location(self, _role: Role, subject: int) -> dict[str, str]:
        """A site."""
        own, foreign = self.world.place["id"], self.elsewhere.place["id"]
        return {"location_id": [own, own, own, foreign, str(uuid4())][subject]}

    def kind(self, _role: Role, subject: int) -> dict[str, str]:
        """A kind of visit."""
        own, foreign = self.world.kind["id"], self.elsewhere.kind["id"]
        return {"type_id": [own, own, own, foreign, str(uuid4())][subject]}

    def availability(self, role: Role, subject: int) -> dict[str, str]:
        """Hours of the caller, or of a colleague."""
        if subject == FOREIGN:
            return {"availability_id": self.elsewhere.hours()}
        if subject == ABSENT:
            return {"availability_id": str(uuid4())}
        whose = self.callers[Role.CLINICIAN] if subject == OWN and role is Role.CLINICIAN else self.colleague
        return {"availability_id": self.clinic.hours(whose, start_time="20:00", end_time="21:00")["id"]}

    def appointment(self, role: Role, subject: int, *moves: str, kind: dict[str, Any] | None = None) -> dict[str, str]:
        """A visit of the patient: to the caller, or booked by the program, or to a colleague."""
        if subject >= FOREIGN:
            return {"appointment_id": self._new(subject, World.appointment)}
        own = subject == OWN
        patient = self.clinic.patient() if own and role is Role.CLINICIAN else self.patients[role][subject]
        doctor = self.callers[role] if own and role is Role.CLINICIAN else self.colleague
        booker = self.callers[role] if own and role is Role.SERVICE else self.clinic.admin
        body = self.clinic.booking(patient, doctor, kind or self.world.kind, self.world.free())
        return {"appointment_id": self.world.moved(booker.post("/appointments", body).get_json(), *moves)}

    def series(self, role: Role, subject: int) -> dict[str, str]:
        """A series of the patient's: with the caller, or booked by the program, or with a colleague."""
        if subject >= FOREIGN:
            return {"series_id": self._new(subject, World.series)}
        own = subject == OWN
        patient = self.clinic.patient() if own and role is Role.CLINICIAN else self.patients[role][subject]
        doctor = self.callers[role] if own and role is Role.CLINICIAN else self.colleague
        booker = self.callers[role] if own and role is Role.SERVICE else self.clinic.admin
        body = self.clinic.booking(patient, doctor, self.world.kind, self.world.free())
        made = booker.post("/series", body | {"frequency": "weekly", "interval": 26, "count": 2})
        assert made.status_code == 201, made.text
        return {"series_id": made.get_json()["id"]}

    def due(self, role: Role, subject: int) -> dict[str, str]:
        """A visit whose time has come."""
        return self.appointment(role, subject, "begin")

    def started(self, role: Role, subject: int) -> dict[str, str]:
        """A visit whose patient is there."""
        return self.appointment(role, subject, "begin", "check-in")

    def going_on(self, role: Role, subject: int) -> dict[str, str]:
        """A visit that goes on."""
        return self.appointment(role, subject, "begin", "check-in", "start")

    def called_off(self, role: Role, subject: int) -> dict[str, str]:
        """A visit that was cancelled."""
        return self.appointment(role, subject, "cancel")

    def requested(self, role: Role, subject: int) -> dict[str, str]:
        """A visit that waits for approval."""
        return self.appointment(role, subject, kind=self.world.visit)

    def hold(self, role: Role, subject: int) -> dict[str, str]:
        """A time that the caller holds, or somebody else."""
        if subject == ABSENT:
            return {"hold_id": str(uuid4())}
        world = self.elsewhere if subject == FOREIGN else self.world
        body = world.holding()
        if subject == OWN and role is Role.CLINICIAN:
            body["clinician_id"] = self.callers[role].id
        holder = self.callers[role] if subject == OWN else world.clinic.user(Role.NURSE)
        return {"hold_id": holder.post("/holds", body).get_json()["id"]}

    def feed(self, role: Role, subject: int) -> dict[str, str]:
        """A calendar feed that the caller made, or somebody else."""
        if subject >= FOREIGN:
            return {"feed_id": self._new(subject, lambda world: str(world.feed()["id"]))}
        of = {"clinician_id": (self.callers[role] if role is Role.CLINICIAN else self.colleague).id}
        if role is Role.PATIENT:
            of = {"patient_id": self.patients[role][OWN]["id"]}
        maker = self.callers[role] if subject == OWN else self.clinic.user(Role.NURSE)
        return {"feed_id": maker.post("/calendar-feeds", of).get_json()["id"]}

    def waiting(self, role: Role, subject: int) -> dict[str, str]:
        """An entry of the waitlist to which a time is offered: of the patient, or made by the caller."""
        if subject >= FOREIGN:
            return {"entry_id": self._new(subject, World.offered)}
        own, caller = subject == OWN, self.callers[role]
        doctor = caller if own and role is Role.CLINICIAN else self.colleague
        maker = caller if own and role in (Role.CLINICIAN, Role.SERVICE) else self.clinic.admin
        patient = self.patients[role][RELATED if doctor is caller else subject]
        visit = self.clinic.appointment(self.clinic.patient(), doctor, self.world.kind, self.world.free())
        kind = self.clinic.appointment_type()
        body = {"patient_id": patient["id"], "appointment_type_id": kind["id"], "clinician_ids": [doctor.id]}
        made = maker.post("/waitlist", body | {"from": visit["start"], "to": visit["end"]})
        assert made.status_code == 201, made.text
        self.world.moved(visit, "cancel")
        return {"entry_id": made.get_json()["id"]}

    def room(self, _role: Role, subject: int) -> dict[str, str]:
        """A room."""
        return {"room_id": self._new(subject, lambda world: str(world.room["id"]))}

    def device(self, _role: Role, subject: int) -> dict[str, str]:
        """A device."""
        return {"device_id": self._new(subject, lambda world: str(world.device["id"]))}

    def calendar(self, _role: Role, subject: int) -> dict[str, str]:
        """A site that keeps the holidays of a country."""
        return {"location_id": self._new(subject, World.with_calendar)}

    def holiday(self, role: Role, subject: int) -> dict[str, str]:
        """A day on which a site is closed."""
        return self.location(role, subject) | {"holiday_id": self._new(subject, World.holiday)}

    def opening(self, role: Role, subject: int) -> dict[str, str]:
        """A one-off opening of the caller's diary, or of a colleague's."""
        return {"opening_id": self._one_off("openings", role, subject)}

    def time_off(self, role: Role, subject: int) -> dict[str, str]:
        """Time off of the caller, or of a colleague."""
        return {"time_off_id": self._one_off("time-offs", role, subject)}

    def _one_off(self, noun: str, role: Role, subject: int) -> str:
        whose = self._clinician(role, subject) if subject < FOREIGN else ""
        return self._new(subject, lambda world: world.one_off(noun, whose))

    def resource(self, role: Role, subject: int) -> dict[str, str]:
        """A record of the patient's."""
        patient = self.patients[role][RELATED if subject >= FOREIGN else subject]
        path = {"type_name": "Observation", "version": "1", "patient_id": patient["id"]}
        if subject >= FOREIGN:
            return path | {"fhir_id": self._new(subject, World.resource)}
        return path | {"fhir_id": self.world.resource(patient)}

    def note(self, role: Role, subject: int, *, signed: bool = False) -> dict[str, str]:
        """A note about the patient that a program wrote."""
        if subject == ABSENT:
            return {"patient_id": str(uuid4()), "note_id": str(uuid4())}
        world = self.elsewhere if subject == FOREIGN else self.world
        patient = world.patient if subject == FOREIGN else self.patients[role][subject]
        return {"patient_id": patient["id"], "note_id": world.note(signed=signed, patient=patient)}

    def signed_note(self, role: Role, subject: int) -> dict[str, str]:
        """The same, signed."""
        return self.note(role, subject, signed=True)

    def slot(self, role: Role, subject: int) -> dict[str, str]:
        """A free time of the organisation's."""
        if subject == ABSENT:
            return {"slot_id": id_of(Key(uuid4(), uuid4(), datetime.now(UTC), 30))}
        return {"slot_id": self._new(subject, World.slot)}

    def record(self, role: Role, subject: int) -> dict[str, str]:
        """The whole record of the patient."""
        path = {"owner_type": "Patient", "type_name": "Observation"}
        patients = self.patients[role]
        known = self._new(subject, lambda world: world.patient["id"]) if subject >= FOREIGN else patients[subject]["id"]
        return path | {"owner_id": known, "fhir_id": known}

    def _new(self, subject: int, make: Callable[[World], str]) -> str:
        """The id of a thing of the organisation, or of another one, or of nothing."""
        return str(uuid4()) if subject == ABSENT else make(self.elsewhere if subject == FOREIGN else self.world)


@dataclass(frozen=True)
class Thing:
    """A route, what it names, and the statuses for own, related and unrelated things of each role that may call it.

    Where it makes what is not there, those of foreign and absent things too. A role that is not named is refused
    whatever the thing is, as TABLE says; a foreign thing is as absent as one that is not there.
    """

    route: str
    makes: Callable[[Circle, Role, int], dict[str, str]]
    statuses: dict[str, str]

    @property
    def row(self) -> Row:
        """The route's row among all routes."""
        return next(row for row in TABLE if row.route == self.route)

    @property
    def expected(self) -> dict[Role, list[int]]:
        """Statuses by role and subject."""
        found = {role: [self.row.expected[role]] * 5 for role in Role}
        for roles, statuses in self.statuses.items():
            for role in roles.split():
                found[Role(role)] = [*map(int, statuses.split()), 404, 404][:5]
        return found


# fmt: off
THINGS = [
    #     for each role: own related unrelated
    Thing("GET /fhir/R4/{type_name}/{fhir_id}", Circle.resource,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /fhir/R4/{type_name}/{fhir_id}/_history", Circle.resource,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /fhir/R4/{type_name}/{fhir_id}/_history/{version}", Circle.resource,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/merges", Circle.patient,
          {"admin": "201 201 201"}),
    Thing("GET /api/v1/patients/{patient_id}/merges", Circle.patient,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/merges/{merge_id}/undo", Circle.merge,
          {"admin": "200 200 200"}),
    Thing("GET /fhir/R4/$export/{export_id}", Circle.export,
          {"service": "200 404 404"}),
    Thing("DELETE /fhir/R4/$export/{export_id}", Circle.export,
          {"service": "202 404 404"}),
    Thing("GET /fhir/R4/$export/{export_id}/{number}.ndjson", Circle.exported_file,
          {"service": "200 404 404"}),
    Thing("GET /fhir/R4/Group/{fhir_id}/$export", Circle.group,
          {"service": "202 202 202"}),
    Thing("GET /fhir/R4/Patient/{fhir_id}/$everything", Circle.record,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /fhir/R4/Patient/{fhir_id}/$summary", Circle.record,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /fhir/R4/{owner_type}/{owner_id}/{type_name}", Circle.record,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("POST /fhir/R4/{owner_type}/{owner_id}/{type_name}/_search", Circle.record,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /fhir/R4/Appointment/{appointment_id}", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("GET /fhir/R4/Appointment/{appointment_id}/_history", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("PUT /fhir/R4/Appointment/{appointment_id}", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("PATCH /fhir/R4/Appointment/{appointment_id}", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("GET /fhir/R4/Slot/{slot_id}", Circle.slot,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("GET /fhir/R4/Schedule/{clinician_id}", Circle.clinician,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("PATCH /fhir/R4/{type_name}/{fhir_id}", Circle.resource,
          {"clinician nurse": "404 200 404", "service": "200 200 200"}),
    Thing("PUT /fhir/R4/{type_name}/{fhir_id}", Circle.resource,
          {"clinician nurse": "404 200 404 201 201", "service": "200 200 200 201 201"}),
    Thing("DELETE /fhir/R4/{type_name}/{fhir_id}", Circle.resource,
          {"clinician": "404 204 404", "service": "204 204 204"}),
    Thing("DELETE /api/v1/me/sessions/{session_id}", Circle.session,
          {"admin clinician nurse receptionist patient auditor": "204 404 404"}),
    Thing("GET /api/v1/users/{user_id}", Circle.account,
          {"admin": "200 200 200"}),
    Thing("PATCH /api/v1/users/{user_id}", Circle.account,
          {"admin": "200 200 200"}),
    Thing("PUT /api/v1/users/{user_id}/roles", Circle.account,
          {"admin": "403 200 200"}),
    Thing("POST /api/v1/users/{user_id}/deactivate", Circle.account,
          {"admin": "200 200 200"}),
    Thing("GET /api/v1/users/{user_id}/sessions", Circle.account,
          {"admin": "200 200 200"}),
    Thing("DELETE /api/v1/users/{user_id}/sessions", Circle.account,
          {"admin": "204 204 204"}),
    Thing("DELETE /api/v1/users/{user_id}/otp", Circle.account,
          {"admin": "204 204 204"}),
    Thing("GET /api/v1/service-clients/{client_id}", Circle.client,
          {"admin": "200 200 200"}),
    Thing("PATCH /api/v1/service-clients/{client_id}", Circle.client,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/service-clients/{client_id}/rotate-secret", Circle.client,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/service-clients/{client_id}/deactivate", Circle.client,
          {"admin": "200 200 200"}),
    Thing("GET /api/v1/smart-apps/{app_id}", Circle.smart_app,
          {"admin clinician nurse receptionist patient": "200 200 200"}),
    Thing("PATCH /api/v1/smart-apps/{app_id}", Circle.smart_app,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/smart-apps/{app_id}/rotate-secret", Circle.smart_app,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/smart-apps/{app_id}/deactivate", Circle.smart_app,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/smart-apps/{app_id}/launches", Circle.smart_app,
          {"admin clinician nurse receptionist patient": "200 200 200"}),
    Thing("GET /api/v1/clinicians/{clinician_id}", Circle.clinician,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("GET /api/v1/locations/{location_id}", Circle.location,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/vitals", Circle.patient,
          {"clinician nurse": "404 201 404", "service": "201 201 201"}),
    Thing("POST /api/v1/patients/{patient_id}/notes", Circle.patient,
          {"clinician nurse": "404 201 404", "service": "201 201 201"}),
    Thing("GET /api/v1/patients/{patient_id}/notes/{note_id}", Circle.note,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/notes/{note_id}/sign", Circle.note,
          {"clinician nurse": "404 409 404", "service": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/notes/{note_id}/amend", Circle.signed_note,
          {"clinician nurse": "404 201 404", "service": "201 201 201"}),
    Thing("GET /api/v1/patients/{patient_id}/timeline", Circle.patient,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("GET /api/v1/patients/{patient_id}/{kind}", Circle.patient_list,
          {"clinician nurse": "404 200 404", "patient": "200 200 404", "service": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/reconciliation", Circle.patient,
          {"clinician nurse": "404 200 404", "service": "200 200 200"}),
    Thing("GET /api/v1/patients/{patient_id}/duplicates", Circle.patient,
          {"admin receptionist service": "200 200 200", "clinician nurse": "404 200 404"}),
    Thing("GET /api/v1/patients/{patient_id}", Circle.patient,
          {"admin receptionist service": "200 200 200", "clinician nurse": "404 200 404", "patient": "200 200 404"}),
    Thing("PATCH /api/v1/patients/{patient_id}", Circle.patient,
          {"admin receptionist service": "200 200 200", "clinician nurse": "404 200 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/patients/{patient_id}/care-relationships", Circle.patient,
          {"admin": "201 201 201", "clinician": "404 201 404"}),
    Thing("GET /api/v1/patients/{patient_id}/care-relationships", Circle.patient,
          {"admin": "200 200 200", "clinician nurse": "404 200 404"}),
    Thing("POST /api/v1/patients/{patient_id}/care-relationships/{relationship_id}/end", Circle.relationship,
          {"admin": "200 200 200", "clinician": "404 403 404"}),
    Thing("POST /api/v1/patients/{patient_id}/proxies", Circle.patient,
          {"admin receptionist": "201 201 201", "patient": "201 403 404"}),
    Thing("GET /api/v1/patients/{patient_id}/proxies", Circle.patient,
          {"admin receptionist": "200 200 200", "clinician nurse": "404 200 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/approve", Circle.proxy,
          {"admin": "200 200 200"}),
    Thing("POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/revoke", Circle.proxy,
          {"admin receptionist": "200 200 200", "patient": "200 404 404"}),
    Thing("POST /api/v1/patients/{patient_id}/break-glass", Circle.patient,
          {"clinician nurse": "403 201 201"}),
    Thing("POST /api/v1/break-glass/{grant_id}/review", Circle.grant,
          {"clinician": "403 200 200", "auditor": "200 200 200"}),
    Thing("GET /api/v1/patients/{patient_id}/access-log", Circle.patient,
          {"patient": "200 404 404", "auditor": "200 200 200"}),
    Thing("GET /api/v1/appointment-types/{type_id}", Circle.kind,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("GET /api/v1/availabilities/{availability_id}", Circle.availability,
          {"admin clinician nurse receptionist service": "200 200 200"}),
    Thing("PATCH /api/v1/availabilities/{availability_id}", Circle.availability,
          {"admin receptionist service": "200 200 200", "clinician": "200 403 403"}),
    Thing("DELETE /api/v1/availabilities/{availability_id}", Circle.availability,
          {"admin receptionist service": "204 204 204", "clinician": "204 403 403"}),
    Thing("GET /api/v1/appointments/{appointment_id}", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("GET /api/v1/appointments/{appointment_id}/history", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/cancel", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/reschedule", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/check-in", Circle.due,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/no-show", Circle.due,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/start", Circle.started,
          {"admin nurse": "200 200 200", "clinician": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/complete", Circle.going_on,
          {"admin nurse": "200 200 200", "clinician": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/arrive", Circle.due,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/approve", Circle.requested,
          {"admin nurse receptionist": "200 200 200", "clinician": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/decline", Circle.requested,
          {"admin nurse receptionist": "200 200 200", "clinician": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/reinstate", Circle.called_off,
          {"admin nurse receptionist": "200 200 200", "clinician": "200 404 404"}),
    Thing("POST /api/v1/appointments/{appointment_id}/enter-in-error", Circle.appointment,
          {"admin nurse receptionist": "200 200 200", "clinician": "200 404 404"}),
    Thing("DELETE /api/v1/holds/{hold_id}", Circle.hold,
          {"admin clinician nurse receptionist patient service": "204 404 404"}),
    Thing("GET /api/v1/waitlist/{entry_id}", Circle.waiting,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/waitlist/{entry_id}/accept", Circle.waiting,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/waitlist/{entry_id}/decline", Circle.waiting,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/waitlist/{entry_id}/withdraw", Circle.waiting,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("GET /api/v1/series/{series_id}", Circle.series,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/series/{series_id}/reschedule", Circle.series,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("POST /api/v1/series/{series_id}/cancel", Circle.series,
          {"admin nurse receptionist": "200 200 200", "clinician service": "200 404 404", "patient": "200 200 404"}),
    Thing("GET /api/v1/calendar-feeds/{feed_id}", Circle.feed,
          {"admin": "200 200 200", "clinician nurse receptionist patient": "200 404 404"}),
    Thing("DELETE /api/v1/calendar-feeds/{feed_id}", Circle.feed,
          {"admin": "204 204 204", "clinician nurse receptionist patient": "204 404 404"}),
    Thing("GET /api/v1/rooms/{room_id}", Circle.room,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("GET /api/v1/devices/{device_id}", Circle.device,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("PUT /api/v1/locations/{location_id}/holiday-calendar", Circle.location,
          {"admin": "200 200 200"}),
    Thing("GET /api/v1/locations/{location_id}/holiday-calendar", Circle.location,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("DELETE /api/v1/locations/{location_id}/holiday-calendar", Circle.calendar,
          {"admin": "204 204 204"}),
    Thing("POST /api/v1/locations/{location_id}/holidays", Circle.location,
          {"admin": "201 201 201"}),
    Thing("GET /api/v1/locations/{location_id}/holidays", Circle.location,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("GET /api/v1/locations/{location_id}/holidays/{holiday_id}", Circle.holiday,
          {"admin clinician nurse receptionist patient service": "200 200 200"}),
    Thing("DELETE /api/v1/locations/{location_id}/holidays/{holiday_id}", Circle.holiday,
          {"admin": "204 204 204"}),
    Thing("GET /api/v1/openings/{opening_id}", Circle.opening,
          {"admin clinician nurse receptionist service": "200 200 200"}),
    Thing("DELETE /api/v1/openings/{opening_id}", Circle.opening,
          {"admin receptionist service": "204 204 204", "clinician": "204 403 403"}),
    Thing("GET /api/v1/time-offs/{time_off_id}", Circle.time_off,
          {"admin clinician nurse receptionist service": "200 200 200"}),
    Thing("DELETE /api/v1/time-offs/{time_off_id}", Circle.time_off,
          {"admin receptionist service": "204 204 204", "clinician": "204 403 403"}),
]
# fmt: on


PAIRS = [(thing, role) for thing in THINGS for role in Role if thing.row.expected[role] != 403]
CELLS = [pytest.param(thing, role, id=f"{role} {thing.route}") for thing, role in PAIRS]


@pytest.fixture(scope="module")
def circle(app: Flask, open_clinic: Clinic) -> Circle:
    """One for all the things."""
    return Circle(app, World(app, open_clinic))


def ask(circle: Circle, thing: Thing, role: Role, subject: int) -> TestResponse:
    """The answer to the role about such a thing."""
    parts = thing.makes(circle, role, subject)
    _, body = thing.row.asks(circle.world)
    if thing.makes is Circle.resource and body and thing.row.method == "PUT":
        body = observation(parts["patient_id"], parts["fhir_id"])
    if thing.route.startswith("PUT /fhir/R4/Appointment"):
        body = {**circle.world.proposal(), "id": parts["appointment_id"]}
        if subject < FOREIGN:
            body = circle.world.cancelled(parts["appointment_id"])
    itself = thing.makes is Circle.account and subject == OWN
    caller = circle.clinic.signed_in(UUID(parts["user_id"])) if itself else circle.callers[role]
    return caller.call(thing.row.method, thing.route.split()[1].format(**parts), body)


def test_every_route_that_names_a_thing_is_in_the_table() -> None:
    """A new route fails here until somebody has decided whose things it is for."""
    assert sorted(thing.route for thing in THINGS) == sorted(row.route for row in TABLE if "_id}" in row.route)


@pytest.mark.parametrize(("thing", "role"), CELLS)
def test_a_role_gets_what_the_thing_is_to_it(circle: Circle, thing: Thing, role: Role) -> None:
    """Own, related, unrelated, of another organisation, of nobody; the last two look alike (ACC-15).

    Between organisations no role makes a difference: patients ask for those, and of the others the first who may.
    """
    beyond = role is Role.PATIENT or role is next(one for one_thing, one in PAIRS if one_thing is thing)
    subjects = (OWN, RELATED, UNRELATED, *((FOREIGN, ABSENT) if beyond else ()))
    answers = [ask(circle, thing, role, subject) for subject in subjects]
    names = NAMES[: len(subjects)]
    found = dict(zip(names, [answer.status_code for answer in answers], strict=True))
    assert found == dict(zip(names, thing.expected[role], strict=False))
    if beyond:
        foreign, absent = (answer.get_json() | OF_THE_CALL for answer in answers[FOREIGN:])
        assert foreign == absent, "nobody learns that it is there"


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: thing.route)
def test_without_the_permission_no_thing_makes_a_difference(circle: Circle, thing: Thing) -> None:
    """Whoever may not call it, or is not signed in, gets the same answer about what is there and what is not."""
    _, body = thing.row.asks(circle.world)
    made = [thing.makes(circle, Role.ADMIN, subject) for subject in (UNRELATED, FOREIGN, ABSENT)]
    for role in ROLES:
        if thing.row.expected[role] not in (401, 403):
            continue
        caller = circle.callers[Role(role)] if role in list(Role) else Caller(circle.app)
        answers = [caller.call(thing.row.method, thing.route.split()[1].format(**parts), body) for parts in made]
        assert {answer.status_code for answer in answers} == {thing.row.expected[role]}
        assert len({str(answer.get_json() | OF_THE_CALL) for answer in answers}) == 1
