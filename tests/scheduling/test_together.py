"""Visits of several lengths, with several clinicians, in groups; pools of like devices."""

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import NOBODY, Practice, code_of
from tests.scheduling.racing import RACERS, Diary, tally

DEEPEST = text(
    """
    SELECT coalesce(max(depth), 0) FROM (
        SELECT sum(sum(change)) OVER (ORDER BY at) AS depth
        FROM (SELECT start_at AS at, 1 AS change FROM allocation WHERE bookable_id = :pool
              UNION ALL SELECT end_at, -1 FROM allocation WHERE bookable_id = :pool) AS change
        GROUP BY at
    ) AS depths
    """
)
"""How many have the pool at once, at most."""


def colleague(practice: Practice, **hours: Any) -> Caller:
    """Another clinician, with the same hours unless said otherwise."""
    other = practice.clinic.clinician(time_zone="UTC")
    practice.clinic.hours(other, **hours)
    return other


class TestDurations:
    """A type may last longer or shorter where whoever books says so."""

    @pytest.fixture
    def kind(self, clinic: Clinic) -> dict[str, Any]:
        """Half an hour, or a whole one."""
        return clinic.appointment_type(other_durations_minutes=[60])

    def test_a_longer_one_takes_the_longer_time(self, practice: Practice, kind: dict[str, Any]) -> None:
        long = practice.booked("10:00", appointment_type_id=kind["id"], duration_minutes=60)
        assert (long["start"][11:16], long["end"][11:16]) == ("10:00", "11:00")
        assert code_of(practice.book("10:30")) == (409, "slot_taken")
        assert practice.book("11:00").status_code == 201

    def test_is_searched_for(self, practice: Practice, kind: dict[str, Any]) -> None:
        practice.booked("10:00")
        day = (kind, day_after(3), day_after(4))
        usual, long = practice.clinic.free(*day), practice.clinic.free(*day, duration_minutes=60)
        assert set(usual) - set(long) == {day_after(3, "09:30"), day_after(3, "16:30")}

    def test_moves_with_its_duration(self, practice: Practice, kind: dict[str, Any]) -> None:
        long = practice.booked("10:00", appointment_type_id=kind["id"], duration_minutes=60)
        moved = practice.desk.post(f"/appointments/{long['id']}/reschedule", {"start": day_after(3, "13:00")})
        assert moved.get_json()["end"] == day_after(3, "14:00")
        too_late = practice.desk.post(f"/appointments/{long['id']}/reschedule", {"start": day_after(3, "16:30")})
        assert code_of(too_late) == (409, "outside_availability")

    def test_a_hold_has_it_too(self, practice: Practice, kind: dict[str, Any]) -> None:
        body = {"appointment_type_id": kind["id"], "clinician_id": practice.clinician.id, "duration_minutes": 60}
        held = practice.desk.post("/holds", body | {"start": day_after(3, "10:00")}).get_json()
        given = {"appointment_type_id": kind["id"], "hold_id": held["id"]}
        assert code_of(practice.book("10:00", **given)) == (409, "hold_expired")
        assert practice.book("10:00", **given, duration_minutes=60).status_code == 201

    def test_others_are_refused(self, practice: Practice, kind: dict[str, Any]) -> None:
        refused = practice.book("10:00", appointment_type_id=kind["id"], duration_minutes=45)
        assert refused.status_code == 422
        assert refused.get_json()["errors"][0]["pointer"] == "/duration_minutes"
        asked = {"appointment_type_id": kind["id"], "from_": day_after(3), "to": day_after(4), "duration_minutes": 45}
        assert practice.desk.get("/slots", **asked).status_code == 422

    def test_a_type_names_others_only(self, clinic: Clinic) -> None:
        body = {"name": "Twice", "duration_minutes": 30, "other_durations_minutes": [30, 60]}
        assert clinic.admin.post("/appointment-types", body).status_code == 422


class TestPools:
    """A pool serves as many visits at once as it has places."""

    @pytest.fixture
    def ward(self, clinic: Clinic) -> tuple[list[Caller], dict[str, Any], str]:
        """Three clinicians at a site with two infusion chairs, and a visit that needs one."""
        site = clinic.location()
        body = {"location_id": site["id"], "kind": "infusion-chair", "name": "Chairs", "capacity": 2}
        pool = clinic.admin.post("/devices", body).get_json()
        clinicians = [clinic.clinician(time_zone="UTC", location_id=site["id"]) for _ in range(3)]
        for one in clinicians:
            clinic.hours(one)
        return clinicians, clinic.appointment_type(needs_device_kinds=["infusion-chair"]), pool["id"]

    def book(self, clinic: Clinic, clinician: Caller, kind: dict[str, Any], at: str) -> tuple[int, str | None]:
        """Book a new patient: the status, and the code of a refusal."""
        answer = clinic.admin.post("/appointments", clinic.booking(clinic.patient(), clinician, kind, day_after(3, at)))
        return answer.status_code, answer.get_json().get("code")

    def test_is_full_when_every_place_is_taken(self, clinic: Clinic, ward: Any) -> None:
        (one, two, three), kind, _ = ward
        assert self.book(clinic, one, kind, "09:00") == (201, None)
        assert self.book(clinic, two, kind, "09:00") == (201, None)
        assert self.book(clinic, three, kind, "09:00") == (409, "device_taken")
        assert self.book(clinic, three, kind, "09:30") == (201, None)

    def test_counts_how_many_have_it_at_once(self, clinic: Clinic, ward: Any) -> None:
        """Two that follow each other take one place, whoever sits where."""
        (one, two, three), kind, pool = ward
        long = clinic.appointment_type(needs_device_kinds=["infusion-chair"], duration_minutes=60, grid_minutes=15)
        assert self.book(clinic, one, kind, "09:00") == (201, None)
        assert self.book(clinic, two, kind, "09:30") == (201, None)
        assert self.book(clinic, three, long, "09:00") == (201, None)
        assert deepest(clinic, pool) == 2

    def test_search_offers_what_can_be_booked(self, clinic: Clinic, ward: Any) -> None:
        (one, two, three), kind, _ = ward
        self.book(clinic, one, kind, "09:00")
        self.book(clinic, two, kind, "09:00")
        free = clinic.free(kind, day_after(3), day_after(4), clinician_id=three.id)
        assert day_after(3, "09:00") not in free
        assert day_after(3, "09:30") in free

    def test_has_one_place_to_a_thousand(self, clinic: Clinic) -> None:
        site = clinic.location()
        for capacity in (0, 1001):
            body = {"location_id": site["id"], "kind": "ecg", "name": "A", "capacity": capacity}
            assert clinic.admin.post("/devices", body).status_code == 422


def deepest(clinic: Clinic, pool: str) -> int:
    """How many have the pool at once, at most."""
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        return int(db.session.scalar(DEEPEST, {"pool": pool}))


class TestGroups:
    """Several patients come to one visit."""

    @pytest.fixture
    def group(self, clinic: Clinic) -> dict[str, Any]:
        """A type with three seats."""
        return clinic.appointment_type(group_capacity=3)

    def join(self, practice: Practice, group: dict[str, Any], at: str = "10:00", **given: Any) -> Any:
        """Book a new patient."""
        patient = given.pop("patient_id", None) or practice.clinic.patient()["id"]
        return practice.book(at, appointment_type_id=group["id"], patient_id=patient, **given)

    def test_has_so_many_seats(self, practice: Practice, group: dict[str, Any]) -> None:
        seats = [self.join(practice, group) for _ in range(3)]
        assert [one.status_code for one in seats] == [201] * 3
        assert len({one.get_json()["session_id"] for one in seats}) == 1
        assert code_of(self.join(practice, group)) == (409, "group_full")
        assert code_of(practice.book("10:00")) == (409, "slot_taken")

    def test_is_offered_while_a_seat_is_free(self, practice: Practice, group: dict[str, Any]) -> None:
        day = (group, day_after(3), day_after(4))
        free = practice.clinic.free(*day)
        for taken in range(3):
            assert practice.clinic.free(*day) == free, taken
            self.join(practice, group)
        assert set(free) - set(practice.clinic.free(*day)) == {day_after(3, "10:00")}

    def test_one_patient_has_one_seat(self, practice: Practice, group: dict[str, Any]) -> None:
        patient = practice.clinic.patient()["id"]
        assert self.join(practice, group, patient_id=patient).status_code == 201
        assert code_of(self.join(practice, group, patient_id=patient)) == (409, "patient_busy")

    def test_the_last_to_leave_gives_the_time_free(self, practice: Practice, group: dict[str, Any]) -> None:
        first, second = (self.join(practice, group).get_json() for _ in range(2))
        assert practice.act(first, "cancel").status_code == 200
        assert code_of(practice.book("10:00")) == (409, "slot_taken")
        assert practice.act(second, "cancel").status_code == 200
        assert practice.book("10:00").status_code == 201

    def test_begins_again_after_everybody_left(self, practice: Practice, group: dict[str, Any]) -> None:
        assert practice.act(self.join(practice, group).get_json(), "cancel").status_code == 200
        assert self.join(practice, group).status_code == 201
        assert code_of(practice.book("10:00")) == (409, "slot_taken")

    def test_a_seat_is_given_free_once(self, practice: Practice, group: dict[str, Any]) -> None:
        first, _ = (self.join(practice, group).get_json() for _ in range(2))
        missed = practice.act(first, "no-show").get_json()
        assert practice.act(missed, "enter-in-error").status_code == 200
        assert [self.join(practice, group).status_code for _ in range(3)] == [201, 201, 409]

    def test_moves_from_group_to_group(self, practice: Practice, group: dict[str, Any]) -> None:
        first = self.join(practice, group).get_json()
        later = self.join(practice, group, "11:00").get_json()
        moved = practice.desk.post(f"/appointments/{first['id']}/reschedule", {"start": day_after(3, "11:00")})
        assert moved.status_code == 200, moved.text
        assert moved.get_json()["session_id"] == later["session_id"]
        assert practice.book("10:00").status_code == 201

    def test_a_refused_move_keeps_the_seat(self, practice: Practice, group: dict[str, Any]) -> None:
        first = self.join(practice, group).get_json()
        practice.booked("11:00", patient_id=practice.clinic.patient()["id"])
        path = f"/appointments/{first['id']}/reschedule"
        assert code_of(practice.desk.post(path, {"start": day_after(3, "11:00")})) == (409, "slot_taken")
        assert practice.read(first)["session_id"] == first["session_id"]
        assert code_of(practice.book("10:00")) == (409, "slot_taken")

    def test_cancelled_and_taken_back(self, practice: Practice, group: dict[str, Any]) -> None:
        first = self.join(practice, group).get_json()
        cancelled = practice.act(first, "cancel").get_json()
        assert practice.act(cancelled, "reinstate").get_json()["session_id"] == first["session_id"]

    def test_each_change_is_one_version(self, practice: Practice, group: dict[str, Any]) -> None:
        first = self.join(practice, group).get_json()
        moved = practice.desk.post(
            f"/appointments/{first['id']}/reschedule", {"start": day_after(3, "11:00")}
        ).get_json()
        assert practice.act(moved, "cancel").get_json()["version"] == 3
        events = practice.clinic.admin.get(f"/appointments/{first['id']}/history").get_json()["items"]
        assert [event["status"] for event in events] == ["booked", "booked", "cancelled"]

    def test_has_one_clinician(self, practice: Practice, group: dict[str, Any]) -> None:
        other = colleague(practice)
        refused = self.join(practice, group, with_clinician_ids=[other.id], duration_minutes=45)
        pointers = [one["pointer"] for one in refused.get_json()["errors"]]
        assert (refused.status_code, pointers) == (422, ["/duration_minutes", "/with_clinician_ids"])
        asked = {"appointment_type_id": group["id"], "from_": day_after(3), "to": day_after(4)}
        assert practice.desk.get("/slots", **asked, with_clinician_id=[other.id]).status_code == 422

    def test_seats_are_not_held(self, practice: Practice, group: dict[str, Any]) -> None:
        body = {"appointment_type_id": group["id"], "clinician_id": practice.clinician.id, "start": day_after(3)}
        assert code_of(practice.desk.post("/holds", body)) == (409, "no_hold_in_groups")
        assert code_of(self.join(practice, group, hold_id=NOBODY)) == (409, "hold_expired")

    def test_the_last_seat_goes_once(self, diary: Diary, fresh_day: int) -> None:
        kind = diary.clinic.appointment_type(group_capacity=5)

        def act(caller: Caller, number: int) -> Any:
            body = diary.body(number, "09:00", day=fresh_day)
            return caller.post("/appointments", body | {"appointment_type_id": kind["id"]})

        assert tally(diary.race(act)) == {"201": 5, "409 group_full": RACERS - 5}


class TestSeveralClinicians:
    """One appointment with several clinicians."""

    def test_takes_the_time_of_all(self, practice: Practice) -> None:
        other = colleague(practice)
        made = practice.booked("10:00", with_clinician_ids=[other.id])
        assert made["with_clinician_ids"] == [other.id]
        assert practice.read(made) == made
        patient = practice.clinic.patient()["id"]
        assert code_of(practice.book("10:00", clinician_id=other.id, patient_id=patient)) == (409, "slot_taken")
        assert practice.act(made, "cancel").status_code == 200
        assert practice.book("10:00", clinician_id=other.id, patient_id=patient).status_code == 201

    @pytest.mark.parametrize("hours", [{"start_time": "12:00"}, {"weekdays": [1], "valid_until": "2001-01-01"}])
    def test_all_must_be_there(self, practice: Practice, hours: dict[str, Any]) -> None:
        other = colleague(practice, **hours)
        assert code_of(practice.book("10:00", with_clinician_ids=[other.id])) == (409, "outside_availability")

    def test_nothing_is_taken_where_one_is_busy(self, practice: Practice) -> None:
        other = colleague(practice)
        practice.booked("10:00", clinician_id=other.id, patient_id=practice.clinic.patient()["id"])
        assert code_of(practice.book("10:00", with_clinician_ids=[other.id])) == (409, "slot_taken")
        assert practice.book("10:00").status_code == 201

    def test_search_finds_when_all_are_free(self, practice: Practice) -> None:
        one, two = colleague(practice, start_time="10:00"), colleague(practice, end_time="15:00")
        practice.booked("11:00", clinician_id=one.id)
        given = {"clinician_id": practice.clinician.id, "with_clinician_id": [one.id, two.id]}
        free = practice.clinic.free(practice.kind, day_after(3), day_after(4), **given)
        assert [start[11:16] for start in free] == [
            f"{hour}:{minute}" for hour in range(10, 15) for minute in ("00", "30") if (hour, minute) != (11, "00")
        ]

    def test_moves_all(self, practice: Practice) -> None:
        other = colleague(practice)
        made = practice.booked("10:00", with_clinician_ids=[other.id])
        practice.booked("13:00", clinician_id=other.id, patient_id=practice.clinic.patient()["id"])
        path = f"/appointments/{made['id']}/reschedule"
        assert code_of(practice.desk.post(path, {"start": day_after(3, "13:00")})) == (409, "slot_taken")
        moved = practice.desk.post(path, {"start": day_after(3, "14:00")})
        assert moved.get_json()["with_clinician_ids"] == [other.id]
        assert practice.book("10:00", clinician_id=other.id).status_code == 201

    def test_all_see_the_appointment_and_the_patient(self, practice: Practice) -> None:
        other, stranger = colleague(practice), colleague(practice)
        path, record = "/appointments/{}", f"/patients/{practice.patient['id']}"
        assert other.get(record).get_json().get("phone") is None
        made = practice.booked("10:00", with_clinician_ids=[other.id], reason="knee")
        assert other.get(path.format(made["id"])).get_json()["reason"] == "knee"
        assert [one["id"] for one in other.get("/appointments").get_json()["items"]] == [made["id"]]
        assert other.get(record).status_code == 200
        assert stranger.get(path.format(made["id"])).status_code == 404
        assert stranger.get(record).status_code == 404

    def test_is_in_the_diary_of_all(self, practice: Practice) -> None:
        other = colleague(practice)
        made = practice.booked("10:00", with_clinician_ids=[other.id])
        for clinician in (practice.clinician, other):
            found = practice.desk.get("/appointments", clinician_id=clinician.id).get_json()["items"]
            assert [one["id"] for one in found] == [made["id"]]
        off = {"clinician_id": other.id, "start": day_after(3), "end": day_after(4)}
        affected = practice.clinic.admin.post("/time-offs", off).get_json()["affected"]
        assert [one["id"] for one in affected] == [made["id"]]

    def test_the_time_of_each_is_offered_to_who_waits(self, practice: Practice) -> None:
        other = colleague(practice)
        made = practice.booked("10:00", with_clinician_ids=[other.id])
        waits = {"patient_id": practice.clinic.patient()["id"], "appointment_type_id": practice.kind["id"]}
        span = {"clinician_ids": [other.id], "from": day_after(3), "to": day_after(4)}
        entry = practice.desk.post("/waitlist", waits | span).get_json()
        assert practice.act(made, "cancel").status_code == 200
        offer = practice.desk.get(f"/waitlist/{entry['id']}").get_json()["offer"]
        assert (offer["clinician_id"], offer["start"]) == (other.id, made["start"])

    def test_nobody_opens_a_record_by_naming_themselves(self, practice: Practice) -> None:
        """Hard case: a clinician books a patient into a colleague's diary, taking part themselves."""
        other = colleague(practice)
        body = practice.body("10:00", clinician_id=other.id, with_clinician_ids=[practice.clinician.id])
        assert code_of(practice.clinician.post("/appointments", body)) == (403, "not_your_diary")

    def test_named_twice(self, practice: Practice) -> None:
        other = colleague(practice)
        for ids in ([other.id, other.id], [practice.clinician.id]):
            assert practice.book("10:00", with_clinician_ids=ids).status_code == 422

    def test_in_opposite_orders_nobody_waits_for_ever(self, diary: Diary, fresh_day: int) -> None:
        one, two = (clinician.id for clinician in diary.clinicians)

        def act(caller: Caller, number: int) -> Any:
            first, second = (one, two) if number % 2 else (two, one)
            body = diary.body(number, "09:00", day=fresh_day)
            return caller.post("/appointments", body | {"clinician_id": first, "with_clinician_ids": [second]})

        answers = diary.race(act)
        assert tally(answers) == {"201": 1, "409 slot_taken": RACERS - 1}

    def test_of_a_specialty_and_somebody_more(self, practice: Practice) -> None:
        heart = practice.clinic.clinician(time_zone="UTC", specialty="Heart")
        practice.clinic.hours(heart)
        body = practice.body("10:00", specialty="Heart", with_clinician_ids=[practice.clinician.id])
        del body["clinician_id"]
        made = practice.desk.post("/appointments", body).get_json()
        assert (made["clinician_id"], made["with_clinician_ids"]) == (heart.id, [practice.clinician.id])


def test_pools_are_never_deeper_than_they_are(diary: Diary, fresh_day: int) -> None:
    """Sixteen at once, of overlapping lengths, from sixteen diaries; some would do."""
    clinic, site = diary.clinic, diary.clinic.location()
    body = {"location_id": site["id"], "kind": f"bed-{fresh_day}", "name": f"Beds {fresh_day}", "capacity": 5}
    pool = clinic.admin.post("/devices", body).get_json()["id"]
    kind = clinic.appointment_type(needs_device_kinds=[body["kind"]], other_durations_minutes=[60, 90], grid_minutes=30)
    clinicians = [clinic.clinician(time_zone="UTC", location_id=site["id"]) for _ in range(RACERS)]
    for one in clinicians:
        clinic.hours(one)

    def act(caller: Caller, number: int) -> Any:
        booking = clinic.booking(
            diary.patients[number], clinicians[number], kind, day_after(fresh_day, f"09:{number % 2 * 30:02}")
        )
        return caller.post("/appointments", booking | {"duration_minutes": (30, 60, 90)[number % 3]})

    answers = diary.race(act)
    assert set(tally(answers)) <= {"201", "409 device_taken"}
    assert Counter(answer.status_code for answer in answers)[201] >= 5
    assert deepest(clinic, pool) <= 5
    assert clinic.user(Role.NURSE).get(f"/devices/{pool}").get_json()["capacity"] == 5
