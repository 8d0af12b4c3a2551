"""Which appointments are listed and seen, what the trail says, and which claims stand behind them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from medical.audit.models import AuditEvent
from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import Allocation
from tests.clinic import Clinic, day_after
from tests.scheduling.practice import NOBODY, Practice, code_of, names_in_pages


class TestList:
    """Appointments by start, of those one may see."""

    @pytest.fixture
    def listed(self, practice: Practice) -> "Listed":
        """Some appointments."""
        return Listed(practice)

    def test_by_start_in_pages(self, listed: "Listed") -> None:
        assert names_in_pages(listed.practice.desk, "/appointments", "id") == [
            listed.early,
            listed.late,
            listed.other,
            listed.cancelled,
        ]

    def test_from_and_to(self, listed: "Listed") -> None:
        assert listed.ids(from_=day_after(3, "10:00"), to=day_after(4, "09:00")) == [listed.late]
        assert listed.ids(from_=day_after(3, "10:00"), to=day_after(4, "09:01")) == [listed.late, listed.other]
        assert listed.ids(from_=day_after(3, "10:01")) == [listed.other, listed.cancelled]
        assert listed.ids(to=day_after(3, "10:00")) == [listed.early]

    def test_of_a_clinician_a_patient_a_place(self, listed: "Listed") -> None:
        assert listed.ids(clinician_id=listed.colleague.id) == [listed.other]
        assert listed.ids(patient_id=listed.patient["id"]) == [listed.late, listed.cancelled]
        assert listed.ids(location_id=listed.site["id"]) == [listed.other]
        assert listed.ids(location_id=NOBODY) == []

    def test_of_a_status_or_several(self, listed: "Listed") -> None:
        assert listed.ids(status="cancelled") == [listed.cancelled]
        assert listed.ids(status=["cancelled", "checked_in"]) == [listed.early, listed.cancelled]

    def test_of_all_that_is_given(self, listed: "Listed") -> None:
        assert listed.ids(patient_id=listed.patient["id"], status="booked", to=day_after(4)) == [listed.late]

    def test_an_unknown_status_is_refused(self, listed: "Listed") -> None:
        assert code_of(listed.practice.desk.get("/appointments", status="late")) == (422, "invalid_request")

    def test_two_at_one_moment_have_an_order_too(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        both = [
            practice.booked()["id"],
            practice.booked(clinician_id=colleague.id, patient_id=practice.clinic.patient()["id"])["id"],
        ]
        assert names_in_pages(practice.desk, "/appointments", "id") == sorted(both)


class Listed:
    """Four appointments."""

    def __init__(self, practice: Practice) -> None:
        self.practice, clinic = practice, practice.clinic
        self.site = clinic.location()
        self.colleague = clinic.clinician(time_zone="UTC", location_id=self.site["id"])
        clinic.hours(self.colleague)
        self.patient = clinic.patient()
        cancelled = practice.booked(day=5, patient_id=self.patient["id"])
        self.other = practice.booked(day=4, clinician_id=self.colleague.id)["id"]
        self.late = practice.booked("10:00", patient_id=self.patient["id"])["id"]
        early = practice.booked("09:00")
        practice.act(early, "check-in")
        practice.act(cancelled, "cancel")
        self.early, self.cancelled = early["id"], cancelled["id"]

    def ids(self, **query: Any) -> list[str]:
        """What the desk finds."""
        return [one["id"] for one in self.practice.desk.get("/appointments", **query).get_json()["items"]]


class TestWhoSees:
    """The desk sees all, clinicians their diary, patients their own, others nothing."""

    def test_each_sees_theirs(self, practice: Practice, other_clinic: Clinic) -> None:
        own, patient = practice.clinic.patient_with_account()
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        mine, another = (
            practice.booked("09:00", patient_id=own["id"]),
            practice.booked("10:00", clinician_id=colleague.id),
        )
        both = {mine["id"], another["id"]}
        nurse, foreign_desk = practice.clinic.user(Role.NURSE), other_clinic.user(Role.RECEPTIONIST)
        for caller, seen in (
            (practice.desk, both),
            (nurse, both),
            (practice.clinician, {mine["id"]}),
            (colleague, {another["id"]}),
            (patient, {mine["id"]}),
            (practice.clinic.user(Role.PATIENT), set()),
            (foreign_desk, set()),
        ):
            assert {one["id"] for one in caller.get("/appointments").get_json()["items"]} == seen
            for one in both:
                assert caller.get(f"/appointments/{one}").status_code == (200 if one in seen else 404)

    def test_who_is_clinician_and_patient_sees_both_sides(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        body = {"user_id": patient.id, "specialty": "Cardiology", "time_zone": "UTC"}
        assert practice.clinic.admin.post("/clinicians", body).status_code == 201
        practice.clinic.hours(patient)
        as_patient = practice.booked("09:00", patient_id=own["id"])
        as_clinician = practice.booked("10:00", clinician_id=patient.id)
        practice.booked("11:00")
        seen = {one["id"] for one in patient.get("/appointments").get_json()["items"]}
        assert seen == {as_patient["id"], as_clinician["id"]}

    def test_a_clinician_does_not_touch_another_diary(self, practice: Practice) -> None:
        appointment, colleague = practice.booked(), practice.clinic.clinician()
        for call in ("cancel", "reschedule", "check-in", "no-show", "start", "complete"):
            assert code_of(practice.act(appointment, call, colleague)) == (404, "not_found")
        assert practice.read(appointment) == appointment


class TestTrail:
    """Who touched whose appointment is written down, whatever came of it."""

    def test_a_booking(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        booked = practice.book()
        told = [(event.action, event.outcome, str(event.actor_id), str(event.patient_id)) for event in trail(booked)]
        assert ("appointment.booked", "success", practice.desk.id, practice.patient["id"]) in told
        assert {event[3] for event in told} == {practice.patient["id"]}
        assert booked.get_json()["id"] in {str(event.entity_id) for event in trail(booked)}

    @pytest.mark.parametrize(
        ("call", "action"),
        [
            ("cancel", "appointment.cancelled"),
            ("reschedule", "appointment.rescheduled"),
            ("check-in", "appointment.checked-in"),
            ("no-show", "appointment.missed"),
        ],
    )
    def test_a_change(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]], call: str, action: str
    ) -> None:
        appointment = practice.booked()
        (event,) = trail(practice.act(appointment, call, practice.desk))
        assert (event.action, event.outcome, event.code) == (action, "success", None)
        assert (str(event.patient_id), str(event.entity_id)) == (practice.patient["id"], appointment["id"])
        assert (str(event.actor_id), event.actor_roles) == (practice.desk.id, ["receptionist"])

    def test_reading_one_and_its_history(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        appointment = practice.booked()
        for path, action in (("", "appointment.read"), ("/history", "appointment.history-read")):
            (event,) = trail(practice.clinician.get(f"/appointments/{appointment['id']}{path}"))
            assert (event.action, event.outcome) == (action, "success")
            assert (str(event.actor_id), str(event.patient_id)) == (practice.clinician.id, practice.patient["id"])

    def test_a_list_names_each_patient_on_it_once(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        other = practice.clinic.patient()
        practice.booked("09:00")
        practice.booked("10:00")
        practice.booked("11:00", patient_id=other["id"])
        practice.booked("12:00", patient_id=practice.clinic.patient()["id"])
        events = trail(practice.desk.get("/appointments", limit=3))
        assert [str(event.patient_id) for event in events] == sorted([practice.patient["id"], other["id"]])
        assert {(event.action, event.outcome) for event in events} == {("appointment.searched", "success")}

    def test_an_empty_list_names_nobody(
        self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]
    ) -> None:
        (event,) = trail(practice.desk.get("/appointments"))
        assert (event.action, event.patient_id) == ("appointment.searched", None)

    def test_what_was_denied(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        stranger = practice.clinic.clinician()
        denied = trail(stranger.post("/appointments", practice.body()))
        assert {(event.action, event.outcome, event.code) for event in denied} == {
            ("appointment.booked", "denied", "not_your_diary")
        }
        assert {str(event.patient_id) for event in denied} == {practice.patient["id"]}
        auditor = practice.clinic.user(Role.AUDITOR)
        (forbidden,) = trail(auditor.post("/appointments", practice.body()))
        assert (forbidden.action, forbidden.outcome, forbidden.code) == ("appointment.booked", "denied", "forbidden")
        assert str(forbidden.actor_id) == auditor.id

    def test_what_was_hidden(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        appointment, stranger = practice.booked(), practice.clinic.clinician()
        (event,) = trail(stranger.get(f"/appointments/{appointment['id']}"))
        assert (event.action, event.outcome, event.code) == ("appointment.read", "refused", "not_found")
        assert (str(event.actor_id), str(event.entity_id)) == (stranger.id, appointment["id"])

    def test_hours(self, practice: Practice, trail: Callable[[TestResponse], list[AuditEvent]]) -> None:
        path = f"/availabilities/{practice.hours['id']}"
        for answer, action in (
            (practice.desk.patch(path, {"end_time": "16:00"}), "availability.updated"),
            (practice.desk.delete(path), "availability.deleted"),
        ):
            (event,) = trail(answer)
            assert (event.action, event.outcome, str(event.entity_id)) == (action, "success", practice.hours["id"])


class TestClaims:
    """Behind each live appointment stand two claims, behind others none."""

    def test_follow_the_appointment(self, practice: Practice) -> None:
        appointment = practice.booked("09:00")
        both = {practice.clinician.id, practice.patient["id"]}
        assert self.of(practice, appointment) == {(one, day_after(3, "09:00")) for one in both}
        practice.act(appointment, "reschedule")
        assert self.of(practice, appointment) == {(one, day_after(3, "16:00")) for one in both}
        practice.act(appointment, "cancel")
        assert self.of(practice, appointment) == set()

    def of(self, practice: Practice, appointment: dict[str, Any]) -> set[tuple[str, str]]:
        """Whose time is claimed for it, and when."""
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            query = select(Allocation).where(Allocation.appointment_id == UUID(appointment["id"]))
            return {(str(one.bookable_id), f"{one.start_at:%Y-%m-%dT%H:%M:%SZ}") for one in db.session.scalars(query)}
