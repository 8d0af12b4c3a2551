"""What opens and closes a diary beside weekly hours, and what must be free beside the clinician."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from medical.identity.permissions import Role
from medical.people.models import Device, Room
from medical.platform.db import Scope, db, scoped
from medical.platform.ids import new_id
from medical.scheduling import windows
from medical.scheduling.hours_models import OpenWindow
from medical.scheduling.models import Allocation
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.diary import DAY, Diary, Hours, open_diary, utc

MONDAY = utc("2027-01-04")
TOMORROW = MONDAY + DAY


@pytest.fixture
def diary(clinic: Clinic) -> Iterator[Diary]:
    """A diary in which any moment may be the present one."""
    with open_diary(clinic) as opened:
        yield opened


def office(start: str = "09:00", end: str = "11:00", **given: Any) -> Hours:
    """Hours in UTC."""
    return Hours(start=start, end=end, zone="UTC", **given)


def times(starts: list[datetime]) -> str:
    """The starts of one day in UTC."""
    return " ".join(f"{start:%H:%M}" for start in starts)


def at(hour: int, minute: int = 0) -> datetime:
    """A time of that Monday."""
    return MONDAY + timedelta(hours=hour, minutes=minute)


def code_of(answer: Any) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


class TestWeeksOfMonth:
    """Hours on the n-th weekday of a month."""

    def starts(self, diary: Diary, *weeks: int, **given: Any) -> list[str]:
        """The days of the first half of 2027."""
        clinician = diary.clinician(office(weekdays=(3,), weeks_of_month=weeks, **given))
        found = diary.starts(diary.kind(minutes=120, grid=120), utc("2027-01-01"), utc("2027-07-01"), clinician)
        return [f"{start:%m-%d}" for start in found]

    def test_the_first_and_the_third(self, diary: Diary) -> None:
        assert self.starts(diary, 1, 3)[:6] == ["01-06", "01-20", "02-03", "02-17", "03-03", "03-17"]

    def test_the_last(self, diary: Diary) -> None:
        assert self.starts(diary, -1) == ["01-27", "02-24", "03-31", "04-28", "05-26", "06-30"]

    def test_the_fifth_where_there_is_one(self, diary: Diary) -> None:
        assert self.starts(diary, 5) == ["03-31", "06-30"]

    def test_and_every_second_week_at_once(self, diary: Diary) -> None:
        both = {"every_weeks": 2, "first_week_on": date(2027, 1, 4)}
        assert self.starts(diary, 1, **both) == ["01-06", "02-03", "03-03"]

    @pytest.mark.parametrize("weeks", [[], [0], [6], [-2], [1, 1], ["first"]])
    def test_others_are_refused(self, clinic: Clinic, weeks: list[Any]) -> None:
        clinician = clinic.clinician()
        body = {"clinician_id": clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "12:00"}
        refused = clinic.admin.post("/availabilities", body | {"weeks_of_month": weeks})
        assert code_of(refused) == (422, "invalid_request")
        assert refused.get_json()["errors"][0]["pointer"].startswith("/weeks_of_month")


class TestBuffers:
    """Time before and after a visit that stays free of other visits."""

    def test_keep_a_distance_from_what_is_booked(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "12:00"))
        diary.taken(clinician, at(10, 15), 15)
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "09:00 09:30 10:30 11:00 11:30"
        assert times(diary.starts(diary.kind(before=1), MONDAY, TOMORROW, clinician)) == "09:00 09:30 11:00 11:30"
        assert times(diary.starts(diary.kind(after=15), MONDAY, TOMORROW, clinician)) == "09:00 09:30 10:30 11:00 11:30"
        assert times(diary.starts(diary.kind(after=16), MONDAY, TOMORROW, clinician)) == "09:00 10:30 11:00 11:30"

    def test_need_not_lie_within_the_hours(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "10:00"))
        kind = diary.kind(before=240, after=240)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "09:00 09:30"

    def test_are_claimed_with_the_visit_but_not_of_the_patient(self, diary: Diary) -> None:
        clinician, patient, plain = diary.clinician(office("09:00", "12:00")), diary.patient(), diary.kind()
        booked = diary.book(patient, clinician, diary.kind(before=10, after=20), at(10), MONDAY)
        assert (booked.start_at, booked.end_at) == (at(10), at(10, 30))
        claimed = select(Allocation.kind, Allocation.start_at, Allocation.end_at).order_by(Allocation.kind)
        assert [tuple(row) for row in db.session.execute(claimed.where(Allocation.appointment_id == booked.id))] == [
            ("clinician", at(9, 50), at(10, 50)),
            ("patient", at(10), at(10, 30)),
        ]
        assert times(diary.starts(plain, MONDAY, TOMORROW, clinician)) == "09:00 11:00 11:30"

    def test_of_neighbours_lie_beside_each_other(self, diary: Diary) -> None:
        clinician, kind = diary.clinician(office("09:00", "11:00")), diary.kind(grid=10, before=10, after=20)
        diary.book(diary.patient(), clinician, kind, at(9), MONDAY)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "10:00 10:10 10:20 10:30"

    @pytest.mark.parametrize("wrong", [-1, 241, "ten", None])
    def test_are_between_nothing_and_four_hours(self, clinic: Clinic, wrong: Any) -> None:
        names = ("buffer_before_minutes", "buffer_after_minutes")
        body = {"name": "Surgery", "duration_minutes": 30} | dict.fromkeys(names, wrong)
        refused = clinic.admin.post("/appointment-types", body)
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == [f"/{name}" for name in names]


class Ward:
    """A site with a clinician, rooms and devices, in a diary."""

    def __init__(self, diary: Diary) -> None:
        self.diary, self.site = diary, diary.location()
        self.clinician = diary.clinician(office("09:00", "11:00", location_id=self.site))

    def room(self, site: UUID | None = None) -> UUID:
        """A room of the site."""
        room = Room(id=new_id(), location_id=site or self.site, name=f"Room {new_id()}")
        db.session.add(room)
        db.session.flush()
        return room.id

    def device(self, kind: str) -> UUID:
        """A device of the site."""
        device = Device(id=new_id(), location_id=self.site, kind=kind, name=f"Device {new_id()}")
        db.session.add(device)
        db.session.flush()
        return device.id

    def starts(self, **kind: Any) -> str:
        """When a visit of this kind can begin."""
        return times(self.diary.starts(self.diary.kind(**kind), MONDAY, TOMORROW, self.clinician))


class TestRoomsAndDevices:
    """A time is offered only while what the visit needs is free too."""

    @pytest.fixture
    def ward(self, diary: Diary) -> Ward:
        """A site with a clinician."""
        return Ward(diary)

    def test_without_a_room_there_is_no_visit_that_needs_one(self, ward: Ward) -> None:
        ward.room(ward.diary.location())
        assert ward.starts(needs_room=True) == ""
        assert ward.starts() == "09:00 09:30 10:00 10:30"

    def test_one_room_of_several_is_enough(self, ward: Ward) -> None:
        first, second = ward.room(), ward.room()
        ward.diary.taken(first, at(9), 60)
        assert ward.starts(needs_room=True) == "09:00 09:30 10:00 10:30"
        ward.diary.taken(second, at(9, 30), 60)
        assert ward.starts(needs_room=True) == "09:00 10:00 10:30"

    def test_no_visit_changes_rooms(self, ward: Ward) -> None:
        ward.diary.taken(ward.room(), at(9), 60)
        ward.diary.taken(ward.room(), at(10), 60)
        assert ward.starts(needs_room=True) == "09:00 09:30 10:00 10:30"
        assert ward.starts(needs_room=True, minutes=60, grid=30) == "09:00 10:00"

    def test_a_device_of_each_kind_must_be_free(self, ward: Ward) -> None:
        scan, ecg = ward.device("ultrasound"), ward.device("ecg")
        ward.diary.taken(scan, at(9), 30)
        ward.diary.taken(ecg, at(10), 30)
        assert ward.starts(needs=("ultrasound",)) == "09:30 10:00 10:30"
        assert ward.starts(needs=("ultrasound", "ecg")) == "09:30 10:30"
        assert ward.starts(needs=("ultrasound", "laser")) == ""

    def test_buffers_are_kept_free_of_them_too(self, ward: Ward) -> None:
        ward.diary.taken(ward.room(), at(9, 45), 15)
        assert ward.starts(needs_room=True, before=10) == "09:00 10:30"
        assert ward.starts(needs_room=True, after=20) == "10:00 10:30"

    def test_a_booking_takes_them_and_its_cancellation_gives_them_back(self, ward: Ward) -> None:
        room, device = ward.room(), ward.device("ecg")
        kind = ward.diary.kind(needs_room=True, needs=("ecg",), after=30)
        booked = ward.diary.book(ward.diary.patient(), ward.clinician, kind, at(9), MONDAY)
        taken = select(Allocation.bookable_id, Allocation.end_at).where(Allocation.kind.in_(["room", "device"]))
        assert {tuple(row) for row in db.session.execute(taken.where(Allocation.appointment_id == booked.id))} == {
            (room, at(10)),
            (device, at(10)),
        }
        other = ward.diary.clinician(office("09:00", "11:00", location_id=ward.site))
        assert times(ward.diary.starts(kind, MONDAY, TOMORROW, other)) == "10:00 10:30"
        assert not ward.diary.can_book(ward.diary.patient(), other, kind, at(9, 30), MONDAY)
        assert ward.diary.can_book(ward.diary.patient(), other, kind, at(10), MONDAY)

    def test_the_site_that_has_a_room_is_taken_of_two_that_are_open(self, diary: Diary) -> None:
        here, there = sorted([diary.location(), diary.location()])
        ward = Ward(diary)
        ward.room(there)
        clinician = diary.clinician(office(location_id=here), office(location_id=there))
        kind = diary.kind(needs_room=True)
        assert {slot.location_id for slot in diary.search(kind, MONDAY, TOMORROW, clinician)} == {there}
        assert diary.book(diary.patient(), clinician, kind, at(9), MONDAY).location_id == there

    def test_over_http_a_booking_without_a_free_room_is_refused(self, clinic: Clinic) -> None:
        site = clinic.location()
        doctor, other = (clinic.clinician(time_zone="UTC", location_id=site["id"]) for _ in range(2))
        clinic.hours(doctor)
        clinic.hours(other)
        kind = clinic.appointment_type(needs_room=True, needs_device_kinds=["ecg"])
        start = day_after(3, "09:00")

        def book(by: Caller) -> Any:
            return clinic.admin.post("/appointments", clinic.booking(clinic.patient(), by, kind, start))

        assert code_of(book(doctor)) == (409, "room_taken")
        assert clinic.admin.post("/rooms", {"location_id": site["id"], "name": "1"}).status_code == 201
        assert code_of(book(doctor)) == (409, "device_taken")
        device = {"location_id": site["id"], "name": "A", "kind": "ecg"}
        assert clinic.admin.post("/devices", device).status_code == 201
        booked = book(doctor)
        assert booked.status_code == 201
        assert code_of(book(other)) == (409, "room_taken")
        moved = clinic.admin.post(
            f"/appointments/{booked.get_json()['id']}/reschedule", {"start": start[:14] + "15:00Z"}
        )
        assert moved.status_code == 200, "its own room is not in its way"


class TestRoomsOverHttp:
    """Rooms and devices of sites."""

    def test_are_made_listed_and_read(self, clinic: Clinic) -> None:
        site, other = clinic.location(), clinic.location()
        for path, body in (("/rooms", {}), ("/devices", {"kind": "ecg", "capacity": 2})):
            made = clinic.admin.post(path, body | {"location_id": site["id"], "name": "B"})
            assert made.status_code == 201
            assert made.get_json() == body | {
                "id": made.get_json()["id"],
                "location_id": site["id"],
                "name": "B",
                "version": 1,
            }
            assert clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()
            assert clinic.admin.post(path, body | {"location_id": other["id"], "name": "A"}).status_code == 201
            names = [one["name"] for one in clinic.admin.get(path).get_json()["items"]]
            assert names == ["A", "B"]
            assert clinic.admin.get(path, location_id=site["id"]).get_json()["items"] == [made.get_json()]
            pages = clinic.admin.get(path, limit=1).get_json()
            assert clinic.admin.get(path, limit=1, cursor=pages["next"]).get_json()["items"] == [made.get_json()]
        assert clinic.admin.get("/devices", kind="laser").get_json()["items"] == []

    def test_a_name_is_given_once_in_a_site(self, clinic: Clinic) -> None:
        body = {"location_id": clinic.location()["id"], "name": "1"}
        for path, code, more in (("/rooms", "room_exists", {}), ("/devices", "device_exists", {"kind": "ecg"})):
            assert clinic.admin.post(path, body | more).status_code == 201
            assert code_of(clinic.admin.post(path, body | more)) == (409, code)

    def test_a_site_of_another_organisation_is_none(self, clinic: Clinic, other_clinic: Clinic) -> None:
        body = {"location_id": other_clinic.location()["id"], "name": "1"}
        assert code_of(clinic.admin.post("/rooms", body)) == (404, "not_found")
        assert code_of(clinic.admin.post("/devices", body | {"kind": "ecg"})) == (404, "not_found")
        assert clinic.admin.get(f"/rooms/{new_id()}").status_code == 404
        assert clinic.admin.get(f"/devices/{new_id()}").status_code == 404


class Week:
    """A doctor of a site who works every day from nine to five, UTC."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.site, self.kind = clinic, clinic.location(time_zone="UTC"), clinic.appointment_type()
        self.doctor = clinic.clinician(time_zone="UTC", location_id=self.site["id"])
        self.hours = clinic.hours(self.doctor)

    def free(self, day: int) -> str:
        """The free times of that day from now."""
        found = self.clinic.free(self.kind, day_after(day), day_after(day + 1))
        return " ".join(start[11:16] for start in found)

    def post(self, path: str, start: str, end: str, by: Caller | None = None, **more: Any) -> Any:
        """An opening or time off of the doctor."""
        body = {"clinician_id": self.doctor.id, "start": start, "end": end} | more
        return (by or self.clinic.admin).post(path, body)


WHOLE_DAY = " ".join(f"{9 + half // 2:02}:{half % 2 * 30:02}" for half in range(16))


@pytest.fixture
def week(clinic: Clinic) -> Week:
    """A doctor of a site."""
    return Week(clinic)


class TestTimeOff:
    """A diary is closed for a time."""

    def test_closes_what_it_covers_and_moves_no_other_time(self, week: Week) -> None:
        made = week.post("/time-offs", day_after(3, "09:10"), day_after(3, "16:20"), reason="conference")
        assert made.status_code == 201
        assert week.free(3) == "16:30"
        assert week.free(4) == WHOLE_DAY
        refused = week.clinic.admin.post(
            "/appointments", week.clinic.booking(week.clinic.patient(), week.doctor, week.kind, day_after(3, "10:00"))
        )
        assert code_of(refused) == (409, "outside_availability")

    def test_taken_back_opens_it_again(self, week: Week) -> None:
        made = week.post("/time-offs", day_after(2, "12:00"), day_after(40, "12:00")).get_json()
        assert [week.free(day) for day in (2, 3, 40)] == [WHOLE_DAY[:35], "", WHOLE_DAY[36:]]
        assert week.clinic.admin.delete(f"/time-offs/{made['id']}").status_code == 204
        assert [week.free(day) for day in (2, 3, 40)] == [WHOLE_DAY] * 3

    def test_names_the_appointments_it_hits_and_leaves_them(self, week: Week) -> None:
        clinic = week.clinic
        hit, gone, beside = (
            clinic.appointment(clinic.patient(), week.doctor, week.kind, day_after(3, hour))
            for hour in ("09:30", "11:00", "12:00")
        )
        assert clinic.admin.post(f"/appointments/{gone['id']}/cancel", {"reason": "ill"}).status_code == 200
        made = week.post("/time-offs", day_after(3, "09:59"), day_after(3, "12:00")).get_json()
        kept = hit | {"action": "keep", "proposed": []}
        assert (made["affected"], made["others_affected"]) == ([kept], 0)
        for appointment in (hit, beside):
            assert clinic.admin.get(f"/appointments/{appointment['id']}").get_json()["status"] == "booked"

    def test_who_may_not_see_the_appointments_learns_how_many(self, week: Week) -> None:
        clinic = week.clinic
        clinic.appointment(clinic.patient(), week.doctor, week.kind, day_after(3, "09:30"))
        program = clinic.program("availability:edit")
        made = week.post("/time-offs", day_after(3), day_after(4), by=program).get_json()
        assert (made["affected"], made["others_affected"]) == ([], 1)

    def test_is_listed_by_start(self, week: Week) -> None:
        first, second = (week.post("/time-offs", day_after(day), day_after(day + 1)).get_json()["id"] for day in (5, 9))
        everything = week.clinic.admin.get("/time-offs", clinician_id=week.doctor.id, limit=1).get_json()
        assert [one["id"] for one in everything["items"]] == [first]
        rest = week.clinic.admin.get("/time-offs", limit=1, cursor=everything["next"]).get_json()
        assert [one["id"] for one in rest["items"]] == [second]
        touching = week.clinic.admin.get("/time-offs", from_=day_after(6), to=day_after(12)).get_json()["items"]
        assert [one["id"] for one in touching] == [second]
        assert week.clinic.admin.get(f"/time-offs/{first}").get_json()["id"] == first
        assert week.clinic.admin.get("/openings").get_json()["items"] == []
        assert week.clinic.admin.get(f"/openings/{first}").status_code == 404

    def test_clinicians_take_their_own(self, week: Week) -> None:
        other = week.clinic.clinician()
        assert code_of(week.post("/time-offs", day_after(3), day_after(4), by=other)) == (403, "not_your_diary")
        made = week.post("/time-offs", day_after(3), day_after(4), by=week.doctor)
        assert made.status_code == 201
        assert code_of(other.delete(f"/time-offs/{made.get_json()['id']}")) == (403, "not_your_diary")

    @pytest.mark.parametrize(
        ("start", "end", "pointers"),
        [
            ("2027-01-04T09:00:00", "2027-01-04T10:00:00", ["/start", "/end"]),
            ("2027-01-04T09:00:00Z", "2027-01-04T09:00:00Z", ["/end"]),
            ("2027-01-04T09:00:00Z", "2037-01-04T09:00:00Z", ["/end"]),
            ("2027-01-04T09:00:30Z", "2027-01-04T08:00:00.5Z", ["/start", "/end", "/end"]),
        ],
    )
    def test_wrong_times_are_all_named(self, week: Week, start: str, end: str, pointers: list[str]) -> None:
        for path in ("/time-offs", "/openings"):
            refused = week.post(path, start, end)
            assert code_of(refused) == (422, "invalid_request")
            assert [problem["pointer"] for problem in refused.get_json()["errors"]] == pointers


class TestOpenings:
    """A diary is open once more than the weekly hours say."""

    def test_open_beside_weekly_hours_on_their_own_grid(self, week: Week) -> None:
        made = week.post("/openings", day_after(3, "18:10"), day_after(3, "19:20"))
        assert made.status_code == 201
        assert made.get_json()["location_id"] == week.site["id"]
        assert week.free(3) == f"{WHOLE_DAY} 18:10 18:40"
        assert week.clinic.admin.delete(f"/openings/{made.get_json()['id']}").status_code == 204
        assert week.free(3) == WHOLE_DAY

    def test_for_some_kinds_of_visits_only(self, week: Week) -> None:
        other = week.clinic.appointment_type()
        week.post("/openings", day_after(3, "18:00"), day_after(3, "19:00"), appointment_type_ids=[other["id"]])
        assert week.free(3) == WHOLE_DAY
        assert len(week.clinic.free(other, day_after(3), day_after(4))) == 18

    def test_time_off_closes_them_too(self, week: Week) -> None:
        week.post("/openings", day_after(3, "18:00"), day_after(3, "19:00"))
        week.post("/time-offs", day_after(3, "16:00"), day_after(3, "18:30"))
        assert week.free(3)[-11:] == "15:30 18:30"

    def test_over_midnight(self, week: Week) -> None:
        week.post("/openings", day_after(3, "23:30"), day_after(4, "00:30"))
        assert (week.free(3)[-5:], week.free(4)[:5]) == ("23:30", "00:00")

    def test_are_a_day_long_at_most(self, week: Week) -> None:
        refused = week.post("/openings", day_after(3), day_after(4, "00:01"))
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == ["/end"]

    def test_what_they_name_must_be_there(self, week: Week) -> None:
        for wrong in ({"location_id": str(new_id())}, {"appointment_type_ids": [str(new_id())]}):
            assert code_of(week.post("/openings", day_after(3), day_after(4), **wrong)) == (404, "not_found")


class TestHolidays:
    """Days on which a site is closed."""

    def path(self, week: Week, rest: str) -> str:
        """Of the doctor's site."""
        return f"/locations/{week.site['id']}/{rest}"

    def test_a_day_of_the_sites_own_closes_it_and_no_other(self, week: Week) -> None:
        elsewhere = week.clinic.location()
        there = week.clinic.clinician(time_zone="UTC", location_id=elsewhere["id"])
        week.clinic.hours(there, start_time="12:00", end_time="12:30")
        made = week.clinic.admin.post(self.path(week, "holidays"), {"day": day_after(3)[:10], "name": "Works outing"})
        assert made.status_code == 201
        assert (week.free(2).split(" ").count("12:00"), week.free(3)) == (2, "12:00")
        assert week.clinic.admin.get(made.headers["Location"]).get_json() == made.get_json()
        assert week.clinic.admin.delete(self.path(week, f"holidays/{made.get_json()['id']}")).status_code == 204
        assert week.free(3).split(" ").count("12:00") == 2

    def test_an_opening_opens_on_it(self, week: Week) -> None:
        week.clinic.admin.post(self.path(week, "holidays"), {"day": day_after(3)[:10], "name": "Works outing"})
        week.post("/openings", day_after(3, "10:00"), day_after(3, "11:00"))
        assert week.free(3) == "10:00 10:30"

    def test_national_ones_come_with_the_calendar_and_go_with_it(self, week: Week) -> None:
        year = datetime.now(UTC).year + 1
        new_year, day_later = f"{year}-01-01T00:00:00Z", f"{year}-01-02T00:00:00Z"
        ask = (week.kind, new_year, day_later)
        assert len(week.clinic.free(*ask)) == 16
        body = {"country": "DE", "subdivision": "BE"}
        kept = week.clinic.admin.put(self.path(week, "holiday-calendar"), body)
        assert (kept.status_code, kept.get_json()) == (200, body | {"location_id": week.site["id"]})
        assert week.clinic.free(*ask) == []
        listed = week.clinic.admin.get(self.path(week, "holidays"), limit=200).get_json()["items"]
        assert (f"{year}-03-08", True) in {(one["day"], one["national"]) for one in listed}, "Berlin's alone"
        assert week.clinic.admin.put(self.path(week, "holiday-calendar"), {"country": "US"}).status_code == 200
        listed = week.clinic.admin.get(self.path(week, "holidays"), limit=200).get_json()["items"]
        assert f"{year}-03-08" not in {one["day"] for one in listed}
        assert week.clinic.free(*ask) == []
        assert week.clinic.admin.delete(self.path(week, "holiday-calendar")).status_code == 204
        assert week.clinic.admin.get(self.path(week, "holiday-calendar")).status_code == 404
        assert len(week.clinic.free(*ask)) == 16

    def test_a_site_may_work_on_a_national_one(self, week: Week) -> None:
        year = datetime.now(UTC).year + 1
        ask = (week.kind, f"{year}-01-01T00:00:00Z", f"{year}-01-02T00:00:00Z")
        week.clinic.admin.put(self.path(week, "holiday-calendar"), {"country": "DE"})
        national = week.clinic.admin.get(self.path(week, "holidays"), limit=200).get_json()["items"]
        new_year = next(one for one in national if one["day"] == f"{year}-01-01")
        refused = week.clinic.admin.delete(self.path(week, f"holidays/{new_year['id']}"))
        assert code_of(refused) == (409, "national_holiday")
        own = {"day": new_year["day"], "name": "Emergency service", "closed": False}
        assert week.clinic.admin.post(self.path(week, "holidays"), own).status_code == 201
        assert len(week.clinic.free(*ask)) == 16
        assert code_of(week.clinic.admin.post(self.path(week, "holidays"), own)) == (409, "holiday_exists")

    def test_hours_that_are_made_later_keep_them(self, week: Week) -> None:
        week.clinic.admin.post(self.path(week, "holidays"), {"day": day_after(3)[:10], "name": "Works outing"})
        week.clinic.hours(week.doctor, start_time="18:00", end_time="19:00")
        assert week.free(3) == ""

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"country": "de"}, "/country"),
            ({"country": "ZZ"}, "/country"),
            ({"country": "DE", "subdivision": "NS"}, "/subdivision"),
            ({}, "/country"),
        ],
    )
    def test_unknown_countries_and_parts_are_refused(self, week: Week, wrong: Any, pointer: str) -> None:
        refused = week.clinic.admin.put(self.path(week, "holiday-calendar"), wrong)
        assert [problem["pointer"] for problem in refused.get_json()["errors"]][:1] == [pointer]

    def test_of_a_site_that_is_not_there(self, week: Week) -> None:
        nowhere = f"/locations/{new_id()}"
        for path, body in (("holiday-calendar", {"country": "DE"}),):
            assert week.clinic.admin.put(f"{nowhere}/{path}", body).status_code == 404
        assert week.clinic.admin.post(f"{nowhere}/holidays", {"day": "2027-01-01", "name": "X"}).status_code == 404
        assert week.clinic.admin.get(f"{nowhere}/holidays").status_code == 404

    def test_are_set_by_the_administrator_and_read_by_all(self, week: Week) -> None:
        for role in (Role.CLINICIAN, Role.RECEPTIONIST, Role.PATIENT):
            caller = week.clinic.user(role)
            refused = caller.put(self.path(week, "holiday-calendar"), {"country": "DE"})
            assert code_of(refused) == (403, "forbidden")
            assert caller.get(self.path(week, "holidays")).status_code == 200


class TestWindows:
    """What is stored is what the rules say, whatever changed them."""

    def stored(self, clinic: Clinic) -> set[Any]:
        """The windows of the organisation."""
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            columns = [column for column in OpenWindow.__table__.columns if column.name != "appointment_type_ids"]
            rows = {tuple(row) for row in db.session.execute(select(*columns))}
            db.session.rollback()
            return rows

    def test_changed_piece_by_piece_equals_made_at_once(self, week: Week) -> None:
        clinic = week.clinic
        week.post("/openings", day_after(3, "18:10"), day_after(3, "19:20"))
        kept = week.post("/time-offs", day_after(2, "11:00"), day_after(9, "10:30"))
        clinic.admin.post(f"/locations/{week.site['id']}/holidays", {"day": day_after(12)[:10], "name": "X"})
        clinic.admin.put(f"/locations/{week.site['id']}/holiday-calendar", {"country": "CA", "subdivision": "NS"})
        change = {"start_time": "07:30", "time_zone": "America/Halifax", "every_weeks": 2}
        assert clinic.admin.patch(f"/availabilities/{week.hours['id']}", change).status_code == 200
        clinic.admin.delete(f"/time-offs/{kept.get_json()['id']}")
        week.post("/time-offs", day_after(20), day_after(21, "13:00"))
        piecewise = self.stored(clinic)
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            db.session.execute(text("DELETE FROM open_window"))
            windows.refresh([week.doctor.user_id])  # type: ignore[list-item]  # a clinician has an id
            db.session.commit()
        assert piecewise == self.stored(clinic)
        assert len(piecewise) > 250

    def test_what_did_not_change_is_not_written(self, week: Week) -> None:
        before = "SELECT count(DISTINCT xmin::text) FROM open_window"
        with week.clinic.app.app_context(), scoped(Scope(week.clinic.organization_id)):
            windows.refresh([week.doctor.user_id])  # type: ignore[list-item]  # as above
            db.session.commit()
            assert db.session.scalars(text(before)).one() == 1
        week.post("/time-offs", day_after(3, "12:00"), day_after(3, "13:00"))
        with week.clinic.app.app_context(), scoped(Scope(week.clinic.organization_id)):
            written = "SELECT count(*) FROM open_window GROUP BY xmin::text ORDER BY 1"
            assert db.session.scalars(text(written)).all()[0] == 2

    def test_deleted_hours_leave_none(self, week: Week) -> None:
        assert week.clinic.admin.delete(f"/availabilities/{week.hours['id']}").status_code == 204
        assert self.stored(week.clinic) == set()

    def test_reach_beyond_the_farthest_horizon(self, week: Week) -> None:
        assert len(week.clinic.free(week.kind, day_after(549), day_after(550))) == 16
        with week.clinic.app.app_context(), scoped(Scope(week.clinic.organization_id)):
            last = db.session.scalars(select(func.max(OpenWindow.local_day))).one()
            assert last >= datetime.now(UTC).date() + timedelta(days=560)
