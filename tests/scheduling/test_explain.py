"""Staff are told why there is no free time, and nothing about anybody's visit that they may not see."""

from typing import Any

import pytest

from medical.identity.permissions import Role
from tests.clinic import Caller, Clinic, day_after


class Question:
    """About a doctor who works from nine to five at a site, UTC."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.site = clinic, clinic.location(time_zone="UTC")
        self.kind = clinic.appointment_type(min_notice_minutes=60, horizon_days=30, buffer_after_minutes=10)
        self.doctor = clinic.clinician(time_zone="UTC", location_id=self.site["id"])
        self.hours = clinic.hours(self.doctor)

    def ask(self, start: str, by: Caller | None = None, **given: Any) -> dict[str, Any]:
        """The answer about this start."""
        kind = given.pop("kind", self.kind)
        asked = {"clinician_id": self.doctor.id, "appointment_type_id": kind["id"], "start": start} | given
        answer = (by or self.clinic.admin).get("/slots/explain", **asked)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()
        return found

    def codes(self, start: str, **given: Any) -> list[str]:
        """What stands in the way."""
        return [reason["code"] for reason in self.ask(start, **given)["reasons"]]


@pytest.fixture
def question(clinic: Clinic) -> Question:
    """About a doctor of a site."""
    return Question(clinic)


def test_a_free_time_has_no_reason(question: Question) -> None:
    """It is offered."""
    assert question.ask(day_after(3, "09:00")) == {"offered": True, "bookable": True, "reasons": []}


def test_notice_and_horizon(question: Question) -> None:
    """Too soon and too far ahead."""
    assert "too_soon" in question.codes(day_after(-1, "09:00"))
    assert question.codes(day_after(40, "09:00")) == ["beyond_horizon"]


def test_outside_the_hours_and_across_their_end(question: Question) -> None:
    """Hours that cover a part of the visit are named."""
    assert question.codes(day_after(3, "20:00")) == ["not_open"]
    (reason,) = question.ask(day_after(3, "16:45"))["reasons"]
    assert (reason["code"], reason["source_id"]) == ("partly_open", question.hours["id"])
    assert (reason["start"], reason["end"]) == (day_after(3, "09:00"), day_after(3, "17:00"))


def test_a_time_between_the_grid_can_be_booked(question: Question) -> None:
    """But is not offered."""
    answer = question.ask(day_after(3, "09:07"))
    assert (answer["offered"], answer["bookable"]) == (False, True)
    assert [reason["code"] for reason in answer["reasons"]] == ["off_grid"]


def test_time_off_and_holidays_are_named(question: Question) -> None:
    """With their ids."""
    body = {"clinician_id": question.doctor.id, "start": day_after(3, "12:00"), "end": day_after(4, "12:00")}
    made = question.clinic.admin.post("/time-offs", body | {"reason": "conference"}).get_json()
    (reason,) = question.ask(day_after(3, "13:00"))["reasons"]
    assert (reason["code"], reason["source_id"], reason["name"]) == ("time_off", made["id"], "conference")
    path = f"/locations/{question.site['id']}/holidays"
    day = question.clinic.admin.post(path, {"day": day_after(5)[:10], "name": "Works outing"}).get_json()
    (reason,) = question.ask(day_after(5, "13:00"))["reasons"]
    assert (reason["code"], reason["source_id"], reason["name"]) == ("holiday", day["id"], "Works outing")


def test_hours_for_other_types(question: Question) -> None:
    """Are told from none."""
    other = question.clinic.appointment_type()
    question.clinic.hours(question.doctor, start_time="18:00", end_time="19:00", appointment_type_ids=[other["id"]])
    assert question.codes(day_after(3, "18:00")) == ["other_types"]


def test_what_is_booked_and_its_buffer(question: Question) -> None:
    """The appointment is named to who may see it, and its patient to nobody."""
    clinic = question.clinic
    patient = clinic.patient()
    booked = clinic.appointment(patient, question.doctor, question.kind, day_after(3, "10:00"))
    (reason,) = question.ask(day_after(3, "10:00"))["reasons"]
    assert (reason["code"], reason["source_id"]) == ("booked", booked["id"])
    assert (reason["start"], reason["end"]) == (day_after(3, "10:00"), day_after(3, "10:40"))
    assert question.codes(day_after(3, "09:30")) == ["buffer"]
    program = clinic.program("availability:read")
    answer = question.ask(day_after(3, "10:00"), by=program)
    assert [(reason["code"], reason["source_id"]) for reason in answer["reasons"]] == [("booked", None)]
    assert patient["id"] not in str(answer)


def test_a_room_that_is_missing(question: Question) -> None:
    """And a device."""
    kind = question.clinic.appointment_type(needs_room=True, needs_device_kinds=["ecg"])
    assert question.codes(day_after(3, "10:00"), kind=kind) == ["room_taken"]
    question.clinic.room(question.site)
    assert question.codes(day_after(3, "10:00"), kind=kind) == ["device_taken"]
    question.clinic.device(question.site)
    assert question.codes(day_after(3, "10:00"), kind=kind) == []


def test_several_reasons_at_once(question: Question) -> None:
    """Every one is told."""
    body = {"clinician_id": question.doctor.id, "start": day_after(3), "end": day_after(4)}
    question.clinic.appointment(question.clinic.patient(), question.doctor, question.kind, day_after(3, "10:00"))
    question.clinic.admin.post("/time-offs", body)
    assert sorted(question.codes(day_after(3, "10:00"))) == ["booked", "time_off"]


def test_clinicians_ask_about_their_own_diary_and_patients_do_not(question: Question) -> None:
    """The desk asks about all."""
    asked = {"clinician_id": question.doctor.id, "appointment_type_id": question.kind["id"], "start": day_after(3)}
    statuses = {
        role: question.clinic.user(role).get("/slots/explain", **asked).status_code
        for role in (Role.RECEPTIONIST, Role.NURSE, Role.PATIENT)
    }
    assert statuses == {Role.RECEPTIONIST: 200, Role.NURSE: 200, Role.PATIENT: 403}
    assert question.doctor.get("/slots/explain", **asked).status_code == 200
    assert question.clinic.clinician().get("/slots/explain", **asked).status_code == 403


def test_what_is_not_there_is_not_found(question: Question, other_clinic: Clinic) -> None:
    """Nor what is another organisation's."""
    foreign = {"appointment_type_id": other_clinic.appointment_type()["id"], "clinician_id": question.doctor.id}
    nobody = {"appointment_type_id": question.kind["id"], "clinician_id": other_clinic.clinician().id}
    for asked in (foreign, nobody):
        assert question.clinic.admin.get("/slots/explain", start=day_after(3), **asked).status_code == 404


def test_every_problem_of_a_question_is_told(question: Question) -> None:
    """Naive times and things that are no ids."""
    refused = question.clinic.admin.get("/slots/explain", start="2027-01-01T09:00:00", clinician_id="x")
    assert refused.status_code == 422
    assert {problem["pointer"] for problem in refused.get_json()["errors"]} == {
        "/start",
        "/clinician_id",
        "/appointment_type_id",
    }
