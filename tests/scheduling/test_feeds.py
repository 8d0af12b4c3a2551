"""A calendar program reads somebody's times by a secret address, as long as who made it may see them."""

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar, Event
from sqlalchemy import text
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling import feeds
from tests.clinic import Caller, Clinic, Statements, day_after
from tests.scheduling.practice import Practice, code_of


class Subscriber:
    """A calendar program: it knows an address, and nothing else."""

    def __init__(self, practice: Practice, maker: Caller | None = None, **of: Any) -> None:
        answer = (maker or practice.desk).post("/calendar-feeds", of or {"clinician_id": practice.clinician.id})
        assert answer.status_code == 201, answer.text
        self.feed: dict[str, Any] = answer.get_json()
        self.secret = self.feed["url"].rpartition("/")[2].removesuffix(".ics")
        self._program = Caller(practice.clinic.app)

    def fetch(self, **headers: str) -> TestResponse:
        """The answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._program.call("GET", f"/calendars/{self.secret}.ics", None, named)

    def events(self) -> list[Event]:
        """The events of the calendar."""
        answer = self.fetch()
        assert answer.status_code == 200, answer.text
        assert answer.content_type == "text/calendar; charset=utf-8"
        return [*Calendar.from_ical(answer.data).walk("VEVENT")]


def told(event: Event) -> dict[str, str]:
    """What an event says, as text."""
    return {name: str(event[name]) for name in ("UID", "SUMMARY", "STATUS", "SEQUENCE", "TRANSP")}


class TestCalendar:
    """What it says."""

    def test_busy_and_no_more(self, practice: Practice) -> None:
        visit = practice.booked("09:00", reason="A private matter")
        subscriber = Subscriber(practice)
        [event] = subscriber.events()
        busy = {"UID": visit["id"], "SUMMARY": "Busy", "STATUS": "CONFIRMED", "SEQUENCE": "0", "TRANSP": "OPAQUE"}
        assert told(event) == busy
        assert event["DTSTART"].dt == datetime.fromisoformat(visit["start"])
        assert event["DTEND"].dt == datetime.fromisoformat(visit["end"])
        raw = subscriber.fetch().text
        for secret in (
            practice.patient["family_name"],
            practice.patient["id"],
            "private matter",
            practice.kind["name"],
        ):
            assert secret not in raw

    def test_details_are_the_type_and_the_site_but_of_sensitive_ones(self, practice: Practice) -> None:
        site = practice.clinic.location(time_zone="UTC")
        doctor = practice.clinic.clinician(time_zone="UTC", location_id=site["id"])
        practice.clinic.hours(doctor)
        practice.booked("09:00", clinician_id=doctor.id)
        practice.booked("10:00", clinician_id=doctor.id, sensitive=True)
        plain, sensitive = Subscriber(practice, clinician_id=doctor.id, details=True).events()
        assert (str(plain["SUMMARY"]), str(plain["LOCATION"])) == (practice.kind["name"], site["name"])
        assert (str(sensitive["SUMMARY"]), "LOCATION" in sensitive) == ("Busy", False)

    def test_sequence_grows_with_each_change_and_the_cancelled_stays(self, practice: Practice) -> None:
        visit = practice.booked("09:00")
        subscriber = Subscriber(practice)
        assert practice.act(visit, "reschedule").status_code == 200
        [moved] = subscriber.events()
        assert (moved["SEQUENCE"], moved["DTSTART"].dt) == (1, datetime.fromisoformat(day_after(3, "16:00")))
        assert practice.act(visit, "cancel").status_code == 200
        [gone] = subscriber.events()
        assert told(gone) | {"SUMMARY": ""} == {
            "UID": visit["id"],
            "SUMMARY": "",
            "STATUS": "CANCELLED",
            "SEQUENCE": "2",
            "TRANSP": "TRANSPARENT",
        }
        assert gone["LAST-MODIFIED"].dt >= moved["LAST-MODIFIED"].dt

    def test_what_is_requested_is_tentative(self, practice: Practice) -> None:
        practice.booked("09:00", appointment_type_id=practice.clinic.appointment_type(needs_approval=True)["id"])
        [event] = Subscriber(practice).events()
        assert str(event["STATUS"]) == "TENTATIVE"

    def test_keeps_wall_clock_and_instant_when_clocks_change(self, practice: Practice) -> None:
        doctor = practice.clinic.clinician(time_zone="Europe/Berlin")
        practice.clinic.hours(doctor)
        visits = [practice.booked("10:00", day=day, clinician_id=doctor.id) for day in range(3, 368, 40)]
        answer = Subscriber(practice, clinician_id=doctor.id).fetch()
        calendar = Calendar.from_ical(answer.data)
        events = calendar.walk("VEVENT")
        assert [event["DTSTART"].dt for event in events] == [datetime.fromisoformat(visit["start"]) for visit in visits]
        assert {event["DTSTART"].params["TZID"] for event in events} == {"Europe/Berlin"}
        [zone] = calendar.walk("VTIMEZONE")
        built = zone.to_tz()
        for event in events:
            wall = event["DTSTART"].dt.replace(tzinfo=None)
            assert wall.replace(tzinfo=built).utcoffset() == wall.replace(tzinfo=ZoneInfo("Europe/Berlin")).utcoffset()

    def test_a_group_meets_once(self, practice: Practice) -> None:
        kind = practice.clinic.appointment_type(group_capacity=3)
        for _ in range(2):
            practice.booked("09:00", appointment_type_id=kind["id"], patient_id=practice.clinic.patient()["id"])
        assert len(Subscriber(practice).events()) == 1

    def test_of_whoever_takes_part(self, practice: Practice) -> None:
        other = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(other)
        visit = practice.booked("09:00", with_clinician_ids=[other.id])
        practice.booked("10:00", patient_id=practice.clinic.patient()["id"])
        [event] = Subscriber(practice, clinician_id=other.id).events()
        assert str(event["UID"]) == visit["id"]

    def test_of_a_room_and_a_device(self, clinic: Clinic) -> None:
        site = clinic.location(time_zone="UTC")
        practice = Practice(clinic)
        doctor = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(doctor)
        room, device = clinic.room(site), clinic.device(site)
        kind = clinic.appointment_type(needs_room=True, needs_device_kinds=["ecg"])
        visit = practice.booked("09:00", clinician_id=doctor.id, appointment_type_id=kind["id"])
        practice.booked("10:00", clinician_id=doctor.id)
        for of in ({"room_id": room["id"]}, {"device_id": device["id"]}):
            [event] = Subscriber(practice, **of).events()
            assert str(event["UID"]) == visit["id"]

    def test_of_a_patient_alone(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        visit = practice.booked("09:00", patient_id=own["id"])
        practice.booked("10:00")
        [event] = Subscriber(practice, patient, patient_id=own["id"]).events()
        assert str(event["UID"]) == visit["id"]

    def test_an_empty_one_is_a_calendar_too(self, practice: Practice) -> None:
        assert Subscriber(practice).events() == []

    def test_costs_as_many_statements_for_many_as_for_one(self, practice: Practice, statements: Statements) -> None:
        practice.booked("09:00")
        subscriber = Subscriber(practice)
        subscriber.fetch()
        statements.clear()
        subscriber.fetch()
        one = statements.count
        for at in ("10:00", "11:00", "12:00"):
            practice.booked(at)
        statements.clear()
        assert len(subscriber.events()) == 4
        assert statements.count == one


class TestAddress:
    """Who has it reads; nobody else, and not for longer than its maker may."""

    def test_is_told_once_and_kept_nowhere(self, practice: Practice, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        subscriber = Subscriber(practice)
        subscriber.fetch()
        listed = practice.desk.get("/calendar-feeds").get_json()["items"]
        assert [feed["id"] for feed in listed] == [subscriber.feed["id"]]
        assert "url" not in listed[0]
        assert subscriber.secret not in caplog.text
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            for table in ("calendar_feed", "audit_event", "idempotency_key"):
                rows = db.session.execute(text(f"SELECT t::text FROM {table} t")).scalars().all()  # noqa: S608 - ours
                assert subscriber.secret not in "".join(rows)
                assert subscriber.secret.encode().hex() not in "".join(rows)

    def test_a_repeat_of_the_call_does_not_tell_it_again(self, practice: Practice) -> None:
        body = {"clinician_id": practice.clinician.id}
        first, again = (practice.desk.post("/calendar-feeds", body, Idempotency_Key="one") for _ in range(2))
        assert (again.get_json()["id"], again.get_json()["url"]) == (first.get_json()["id"], None)
        assert first.get_json()["url"]

    @pytest.mark.parametrize("secret", ["x" * 43, "x", "%00", "ü", "x" * 5000])
    def test_a_wrong_one_opens_nothing(self, practice: Practice, secret: str) -> None:
        answer = Caller(practice.clinic.app).get(f"/calendars/{secret}.ics")
        assert code_of(answer) == (404, "not_found")

    def test_revoked_it_opens_nothing(self, practice: Practice) -> None:
        subscriber = Subscriber(practice)
        assert practice.clinic.admin.delete(f"/calendar-feeds/{subscriber.feed['id']}").status_code == 204
        assert code_of(subscriber.fetch()) == (404, "not_found")
        assert practice.desk.get("/calendar-feeds").get_json()["items"] == []

    def test_it_ends_with_the_account_or_the_role_of_its_maker(self, practice: Practice) -> None:
        doctor, leaver = practice.clinician, practice.clinic.user(Role.RECEPTIONIST)
        own, of_leaver = Subscriber(practice, doctor), Subscriber(practice, leaver)
        assert practice.clinic.admin.put(f"/users/{doctor.id}/roles", {"roles": ["nurse"]}).status_code == 200
        assert practice.clinic.admin.post(f"/users/{leaver.id}/deactivate").status_code in (200, 204)
        assert [code_of(one.fetch()) for one in (own, of_leaver)] == [(404, "not_found")] * 2

    def test_it_ends_with_the_right_to_act_for_the_patient(self, practice: Practice) -> None:
        patient, own = practice.clinic.patient_with_account()
        parent = practice.clinic.user(Role.PATIENT)
        body = {"user_id": parent.id, "basis": "consent", "scopes": ["record", "appointments"]}
        proxy = own.post(f"/patients/{patient['id']}/proxies", body).get_json()
        practice.booked("09:00", patient_id=patient["id"])
        practice.booked("10:00", patient_id=patient["id"], sensitive=True)
        subscriber = Subscriber(practice, parent, patient_id=patient["id"])
        assert len(subscriber.events()) == 1, "sensitive ones are not for who acts for a patient"
        revoked = practice.clinic.admin.post(
            f"/patients/{patient['id']}/proxies/{proxy['id']}/revoke", {"reason": "of age"}
        )
        assert revoked.status_code == 200
        assert code_of(subscriber.fetch()) == (404, "not_found")

    def test_who_has_the_present_calendar_is_told_so(self, practice: Practice) -> None:
        practice.booked("09:00")
        subscriber = Subscriber(practice)
        first = subscriber.fetch()
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = subscriber.fetch(If_None_Match=first.headers["ETag"])
        assert (again.status_code, again.data) == (304, b"")
        practice.booked("10:00")
        assert subscriber.fetch(If_None_Match=first.headers["ETag"]).status_code == 200

    def test_the_trail_and_the_list_tell_of_reading(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        subscriber = Subscriber(practice, patient, patient_id=own["id"])
        subscriber.fetch()
        log = patient.get(f"/patients/{own['id']}/access-log").get_json()["items"]
        assert [entry["action"] for entry in log[:2]] == ["calendar.read", "calendar-feed.created"]
        [feed] = patient.get("/calendar-feeds").get_json()["items"]
        used = datetime.fromisoformat(feed["last_used_at"])
        with practice.clinic.at((used + feeds.NOTED - timedelta(seconds=1)).isoformat()):
            subscriber.fetch()
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            row = db.session.execute(text("SELECT last_used_at FROM calendar_feed")).scalar_one()
        assert row == used, "within an hour it is not written again"


class TestMaking:
    """The desk makes all, others their own."""

    def test_clinicians_of_themselves_only(self, practice: Practice) -> None:
        other = practice.clinic.clinician(time_zone="UTC")
        body = {"clinician_id": practice.clinician.id}
        assert practice.clinician.post("/calendar-feeds", body).status_code == 201
        assert code_of(other.post("/calendar-feeds", body)) == (403, "not_your_diary")
        site = practice.clinic.location()
        room = {"room_id": practice.clinic.room(site)["id"]}
        assert code_of(other.post("/calendar-feeds", room)) == (403, "not_your_diary")
        assert practice.desk.post("/calendar-feeds", room).status_code == 201

    def test_patients_of_themselves_only(self, practice: Practice) -> None:
        _, patient = practice.clinic.patient_with_account()
        assert code_of(patient.post("/calendar-feeds", {"patient_id": practice.patient["id"]})) == (404, "not_found")
        assert code_of(patient.post("/calendar-feeds", {"clinician_id": practice.clinician.id}))[0] == 403

    def test_of_exactly_one(self, practice: Practice) -> None:
        two = {"clinician_id": practice.clinician.id, "patient_id": practice.patient["id"]}
        for body in ({}, {"details": True}, two):
            assert code_of(practice.desk.post("/calendar-feeds", body)) == (422, "invalid_request")

    def test_of_nobody_elsewhere(self, practice: Practice, other_clinic: Clinic) -> None:
        site = other_clinic.location()
        elsewhere = {
            "clinician_id": other_clinic.clinician().id,
            "room_id": other_clinic.room(site)["id"],
            "device_id": other_clinic.device(site)["id"],
            "patient_id": other_clinic.patient()["id"],
        }
        for name, value in elsewhere.items():
            assert code_of(practice.desk.post("/calendar-feeds", {name: value})) == (404, "not_found")

    def test_others_do_not_see_it(self, practice: Practice) -> None:
        feed = UUID(Subscriber(practice).feed["id"])
        assert practice.clinician.get(f"/calendar-feeds/{feed}").status_code == 404
        assert practice.clinician.delete(f"/calendar-feeds/{feed}").status_code == 404
        assert practice.clinic.admin.get(f"/calendar-feeds/{feed}").status_code == 200
