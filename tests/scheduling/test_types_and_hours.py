"""Appointment types and weekly hours over HTTP."""

from typing import Any

import pytest

from medical.identity.permissions import Role
from tests.clinic import Clinic
from tests.scheduling.practice import NOBODY, Practice, code_of, names_in_pages


class TestAppointmentTypes:
    """Kinds of visits."""

    def test_the_grid_is_the_duration_unless_said_otherwise(self, clinic: Clinic) -> None:
        body = {"name": "Check-up", "duration_minutes": 20}
        made = clinic.admin.post("/appointment-types", body)
        assert made.status_code == 201
        expected = {"grid_minutes": 20, "min_notice_minutes": 0, "horizon_days": 365, "version": 1}
        simple = {
            "cancellation_cutoff_minutes": 0,
            "needs_approval": False,
            "max_per_day": None,
            "max_per_patient": None,
            "buffer_before_minutes": 0,
            "buffer_after_minutes": 0,
            "needs_room": False,
            "needs_device_kinds": [],
            "other_durations_minutes": [],
            "group_capacity": None,
        }
        assert made.get_json() == body | expected | simple | {"id": made.get_json()["id"]}
        assert clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()

    def test_a_name_is_given_once(self, clinic: Clinic, other_clinic: Clinic) -> None:
        clinic.appointment_type(name="Check-up")
        refused = clinic.admin.post("/appointment-types", {"name": "Check-up", "duration_minutes": 30})
        assert code_of(refused) == (409, "appointment_type_exists")
        assert other_clinic.appointment_type(name="Check-up")["name"] == "Check-up"

    def test_are_listed_by_name(self, clinic: Clinic) -> None:
        for name in ("Surgery", "Check-up", "Flu shot"):
            clinic.appointment_type(name=name)
        assert names_in_pages(clinic.admin, "/appointment-types", "name") == ["Check-up", "Flu shot", "Surgery"]

    @pytest.mark.parametrize("role", [Role.CLINICIAN, Role.NURSE, Role.RECEPTIONIST, Role.PATIENT])
    def test_are_added_by_the_administrator_alone(self, clinic: Clinic, role: Role) -> None:
        refused = clinic.user(role).post("/appointment-types", {"name": "Check-up", "duration_minutes": 30})
        assert code_of(refused) == (403, "forbidden")

    @pytest.mark.parametrize(
        "wrong",
        [
            {"duration_minutes": 0},
            {"duration_minutes": 1441},
            {"grid_minutes": 0},
            {"horizon_days": 551},
            {"cancellation_cutoff_minutes": -1},
            {"max_per_day": 0},
            {"max_per_patient": 0},
            {"name": " "},
        ],
    )
    def test_a_wrong_one_is_told_where(self, clinic: Clinic, wrong: dict[str, Any]) -> None:
        refused = clinic.admin.post("/appointment-types", {"name": "Check-up", "duration_minutes": 30} | wrong)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [f"/{name}" for name in wrong]

    def test_one_of_another_organisation_is_unknown(self, clinic: Clinic, other_clinic: Clinic) -> None:
        kind = other_clinic.appointment_type()
        assert code_of(clinic.admin.get(f"/appointment-types/{kind['id']}")) == (404, "not_found")


class TestHours:
    """Weekly hours of clinicians."""

    def test_are_in_the_clinicians_zone_and_place_unless_said_otherwise(self, clinic: Clinic) -> None:
        site, other = clinic.location(), clinic.location()
        clinician = clinic.clinician(time_zone="Asia/Kathmandu", location_id=site["id"])
        plain = clinic.hours(clinician)
        given = clinic.hours(clinician, time_zone="UTC", location_id=other["id"])
        assert (plain["time_zone"], plain["location_id"]) == ("Asia/Kathmandu", site["id"])
        assert (given["time_zone"], given["location_id"]) == ("UTC", other["id"])

    def test_are_answered_as_they_were_given(self, clinic: Clinic) -> None:
        clinician, kind, site = clinic.clinician(), clinic.appointment_type(), clinic.location()
        body = {
            "clinician_id": clinician.id,
            "weekdays": [5, 1],
            "start_time": "22:00",
            "end_time": "06:00",
            "time_zone": "Europe/Paris",
            "location_id": site["id"],
            "valid_from": "2027-01-01",
            "valid_until": "2027-12-31",
            "every_weeks": 2,
            "weeks_of_month": [1, -1],
            "appointment_type_ids": [kind["id"]],
        }
        made = clinic.admin.post("/availabilities", body)
        assert made.status_code == 201
        added = {"id": made.get_json()["id"], "version": 1, "first_week_on": "2026-12-28"}
        assert made.get_json() == body | added
        assert clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()

    def test_null_removes_what_may_be_absent(self, clinic: Clinic) -> None:
        kind, site, clinician = clinic.appointment_type(), clinic.location(), clinic.clinician()
        full = {
            "location_id": site["id"],
            "valid_from": "2027-01-01",
            "valid_until": "2027-12-31",
            "appointment_type_ids": [kind["id"]],
        }
        hours = clinic.hours(clinician, **full)
        changed = clinic.admin.patch(f"/availabilities/{hours['id']}", dict.fromkeys(full))
        assert changed.status_code == 200
        assert changed.get_json() == hours | dict.fromkeys(full) | {"version": 2}

    def test_only_what_is_sent_changes(self, practice: Practice) -> None:
        changed = practice.desk.patch(
            f"/availabilities/{practice.hours['id']}", {"end_time": "10:00", "weekdays": [1, 2]}
        )
        assert changed.get_json() == practice.hours | {"end_time": "10:00", "weekdays": [1, 2], "version": 2}

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"time_zone": None}, "/time_zone"),
            ({"start_time": "9:00"}, "/start_time"),
            ({"end_time": "24:00"}, "/end_time"),
            ({"weekdays": []}, "/weekdays"),
            ({"weekdays": [1, 1]}, "/weekdays"),
            ({"weekdays": [8]}, "/weekdays/0"),
            ({"every_weeks": 0}, "/every_weeks"),
            ({"valid_from": "2027-02-02", "valid_until": "2027-02-01"}, "/valid_until"),
            ({"valid_until": "2026-12-31"}, "/valid_until"),
            ({"clinician_id": NOBODY}, "/clinician_id"),
        ],
    )
    def test_a_wrong_change_is_told_where(self, clinic: Clinic, changes: dict[str, Any], pointer: str) -> None:
        hours = clinic.hours(clinic.clinician(), valid_from="2027-01-01")
        refused = clinic.admin.patch(f"/availabilities/{hours['id']}", changes)
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [pointer]
        assert clinic.admin.get(f"/availabilities/{hours['id']}").get_json() == hours

    @pytest.mark.parametrize("field", ["location_id", "appointment_type_ids"])
    def test_an_unknown_place_or_kind_is_not_found(self, practice: Practice, field: str) -> None:
        unknown = {field: [NOBODY] if field.endswith("s") else NOBODY}
        body = {"clinician_id": practice.clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        assert code_of(practice.desk.post("/availabilities", body | unknown)) == (404, "not_found")
        path = f"/availabilities/{practice.hours['id']}"
        assert code_of(practice.desk.patch(path, unknown)) == (404, "not_found")
        assert practice.desk.get(path).get_json() == practice.hours

    def test_hours_that_are_not_there_are_not_found(self, practice: Practice, other_clinic: Clinic) -> None:
        foreign = other_clinic.hours(other_clinic.clinician())
        for hours_id in (NOBODY, foreign["id"]):
            path = f"/availabilities/{hours_id}"
            for answer in (
                practice.desk.get(path),
                practice.desk.patch(path, {"every_weeks": 2}),
                practice.desk.delete(path),
            ):
                assert code_of(answer) == (404, "not_found")
        assert other_clinic.admin.get(f"/availabilities/{foreign['id']}").get_json() == foreign
        body = {"clinician_id": NOBODY, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        assert code_of(practice.desk.post("/availabilities", body)) == (404, "not_found")

    def test_removing_them_closes_the_diary_and_keeps_what_is_booked(self, practice: Practice) -> None:
        appointment = practice.booked()
        assert len(practice.free()) == 15
        assert practice.desk.delete(f"/availabilities/{practice.hours['id']}").status_code == 204
        assert practice.free() == []
        assert practice.read(appointment) == appointment
        assert code_of(practice.book("10:00")) == (409, "outside_availability")

    def test_clinicians_set_their_own_only(self, practice: Practice) -> None:
        own, colleague = practice.clinician, practice.clinic.clinician()
        theirs = practice.clinic.hours(colleague)
        body = {"weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        made = own.post("/availabilities", body | {"clinician_id": own.id})
        assert made.status_code == 201
        assert own.patch(f"/availabilities/{made.get_json()['id']}", {"end_time": "11:00"}).status_code == 200
        assert own.delete(f"/availabilities/{made.get_json()['id']}").status_code == 204
        path = f"/availabilities/{theirs['id']}"
        for refused in (
            own.post("/availabilities", body | {"clinician_id": colleague.id}),
            own.patch(path, {"end_time": "11:00"}),
            own.delete(path),
        ):
            assert code_of(refused) == (403, "not_your_diary")
        assert own.get(path).get_json() == theirs

    @pytest.mark.parametrize("role", [Role.NURSE, Role.PATIENT, Role.AUDITOR])
    def test_others_do_not_set_them(self, practice: Practice, role: Role) -> None:
        caller, path = practice.clinic.user(role), f"/availabilities/{practice.hours['id']}"
        body = {"clinician_id": practice.clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "10:00"}
        for refused in (
            caller.post("/availabilities", body),
            caller.patch(path, {"every_weeks": 2}),
            caller.delete(path),
        ):
            assert code_of(refused) == (403, "forbidden")

    def test_are_listed_by_clinician(self, practice: Practice) -> None:
        other = practice.clinic.clinician()
        more = [practice.clinic.hours(whom)["id"] for whom in (other, practice.clinician, other)]
        listed = names_in_pages(practice.desk, "/availabilities", "id")
        by_clinician = {practice.clinician.id: [practice.hours["id"], more[1]], other.id: [more[0], more[2]]}
        assert listed == [one for clinician in sorted(by_clinician) for one in by_clinician[clinician]]
        assert names_in_pages(practice.desk, "/availabilities", "id", clinician_id=other.id) == [more[0], more[2]]

    def test_a_stale_change_is_refused(self, practice: Practice) -> None:
        path = f"/availabilities/{practice.hours['id']}"
        first = practice.desk.get(path).headers["ETag"]
        assert practice.desk.patch(path, {"end_time": "16:00"}, If_Match=first).headers["ETag"] == '"2"'
        assert code_of(practice.desk.patch(path, {"end_time": "15:00"}, If_Match=first)) == (412, "stale")
        assert code_of(practice.desk.delete(path, If_Match=first)) == (412, "stale")
        assert practice.desk.get(path).get_json()["end_time"] == "16:00"
