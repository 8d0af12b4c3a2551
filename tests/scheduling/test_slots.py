"""Which times are offered, and that they are exactly those that can be booked."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text, update

from medical.identity.models import User
from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.db import db
from medical.scheduling import claims, service
from tests.clinic import Clinic, day_after
from tests.scheduling.diary import DAY, EVERY_DAY, MINUTE, Diary, Hours, Kind, Oracle, desk, open_diary, readings, utc

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


def days(starts: list[datetime]) -> list[str]:
    """The days in UTC on which there are starts."""
    return sorted({f"{start:%Y-%m-%d}" for start in starts})


class TestGrid:
    """Where possible starts lie."""

    def test_begins_with_each_opening(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:10", "10:30"), office("14:05", "15:05"))
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "09:10 09:40 14:05 14:35"

    def test_stays_where_it_is_whatever_is_booked(self, diary: Diary) -> None:
        clinician = diary.clinician(office())
        diary.taken(clinician, MONDAY + timedelta(hours=9, minutes=10), 10)
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "09:30 10:00 10:30"

    def test_may_be_finer_than_the_visit_is_long(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "10:00"))
        kind = diary.kind(minutes=30, grid=10)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "09:00 09:10 09:20 09:30"

    def test_may_be_coarser_than_the_visit_is_long(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "13:00"))
        kind = diary.kind(minutes=30, grid=90)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "09:00 10:30 12:00"

    def test_ends_with_the_last_visit_that_fits(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "10:40"))
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "09:00 09:30 10:00"

    def test_a_visit_as_long_as_the_opening_fits_once(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "11:00"))
        assert times(diary.starts(diary.kind(minutes=120, grid=5), MONDAY, TOMORROW, clinician)) == "09:00"
        assert diary.starts(diary.kind(minutes=121, grid=5), MONDAY, TOMORROW, clinician) == []

    def test_a_visit_of_a_whole_day_fits_round_the_clock(self, diary: Diary) -> None:
        clinician = diary.clinician(office("00:00", "00:00"))
        kind = diary.kind(minutes=1440, grid=1440)
        assert diary.starts(kind, MONDAY, MONDAY + 2 * DAY, clinician) == [MONDAY, TOMORROW]
        diary.taken(clinician, MONDAY - DAY + MINUTE, 1440)
        assert diary.starts(kind, MONDAY, MONDAY + 2 * DAY, clinician) == [TOMORROW]


class TestSeveralOpenings:
    """Openings beside, across and apart from each other."""

    def test_a_visit_may_cross_from_one_into_the_next(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "10:00"), office("10:00", "11:00"))
        kind = diary.kind(minutes=60, grid=30)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "09:00 09:30 10:00"

    def test_a_visit_may_cross_midnight_into_the_opening_of_the_next_day(self, diary: Diary) -> None:
        clinician = diary.clinician(office("00:00", "00:00"))
        kind = diary.kind(minutes=60, grid=30)
        assert times(diary.starts(kind, TOMORROW - timedelta(hours=1), TOMORROW - MINUTE, clinician)) == "23:00 23:30"

    def test_overlapping_ones_offer_each_start_once(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "10:30"), office("10:00", "11:00"), office("10:10", "11:00"))
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "09:00 09:30 10:00 10:10 10:30"

    def test_a_visit_never_crosses_from_one_place_into_another(self, diary: Diary) -> None:
        here, there = diary.location(), diary.location()
        clinician = diary.clinician(
            office("09:00", "10:00", location_id=here), office("10:00", "11:00", location_id=there)
        )
        found = diary.search(diary.kind(minutes=60, grid=30), MONDAY, TOMORROW, clinician)
        assert [(f"{slot.start:%H:%M}", slot.location_id) for slot in found] == [("09:00", here), ("10:00", there)]

    def test_one_place_can_be_asked_for(self, diary: Diary) -> None:
        here, there = diary.location(), diary.location()
        clinician = diary.clinician(
            office("09:00", "10:00", location_id=here), office("14:00", "15:00", location_id=there)
        )
        kind = diary.kind()
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician, location_id=there)) == "14:00 14:30"
        assert diary.starts(kind, MONDAY, TOMORROW, clinician, location_id=diary.location()) == []

    def test_hours_of_another_kind_of_visit_do_not_count(self, diary: Diary) -> None:
        kind, other = diary.kind(), diary.kind()
        clinician = diary.clinician(
            office("09:00", "10:00", appointment_type_ids=(other.id,)),
            office("14:00", "15:00", appointment_type_ids=(other.id, kind.id)),
            office("16:00", "16:30"),
        )
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician)) == "14:00 14:30 16:00"
        assert times(diary.starts(other, MONDAY, TOMORROW, clinician)) == "09:00 09:30 14:00 14:30 16:00"


class TestOvernight:
    """An opening that ends on the next day."""

    def test_is_entered_from_the_day_before(self, diary: Diary) -> None:
        clinician = diary.clinician(office("22:00", "02:00", weekdays=(7,)))
        assert times(diary.starts(diary.kind(), MONDAY, TOMORROW, clinician)) == "00:00 00:30 01:00 01:30"

    def test_may_last_for_a_day_and_is_found_from_its_last_minutes(self, diary: Diary) -> None:
        clinician = diary.clinician(office("23:59", "23:59", weekdays=(7,)))
        kind = diary.kind(minutes=1, grid=1)
        found = diary.starts(kind, MONDAY + timedelta(hours=23, minutes=57), TOMORROW + DAY, clinician)
        assert times(found) == "23:57 23:58"


class TestWhichDays:
    """Weekdays, weeks and dates between which hours hold."""

    def test_only_on_their_weekdays(self, diary: Diary) -> None:
        clinician = diary.clinician(office(weekdays=(2, 7)))
        found = diary.starts(diary.kind(), MONDAY, MONDAY + 14 * DAY, clinician)
        assert days(found) == ["2027-01-05", "2027-01-10", "2027-01-12", "2027-01-17"]

    def test_every_second_week_goes_on_over_new_year_and_week_53(self, diary: Diary) -> None:
        """2026 has 53 ISO weeks, so odd and even week numbers would give two Mondays in a row, or none for three."""
        hours = office(weekdays=(1,), every_weeks=2, first_week_on=date(2026, 12, 14))
        clinician = diary.clinician(hours)
        found = diary.starts(diary.kind(), utc("2026-12-07"), utc("2027-02-01"), clinician)
        assert days(found) == ["2026-12-14", "2026-12-28", "2027-01-11", "2027-01-25"]

    def test_every_third_week_was_so_before_its_first_week_too(self, diary: Diary) -> None:
        clinician = diary.clinician(office(weekdays=(1,), every_weeks=3, first_week_on=date(2027, 1, 25)))
        found = diary.starts(diary.kind(), utc("2026-12-01"), utc("2027-02-08"), clinician)
        assert days(found) == ["2026-12-14", "2027-01-04", "2027-01-25"]

    def test_every_second_week_begins_with_the_present_one_where_the_clinician_is(self, diary: Diary) -> None:
        """On Sunday noon in Greenwich it is Monday in Kiritimati: there, the new week has begun."""
        clinician, sunday_noon = diary.clinician(zone="Pacific/Kiritimati"), utc("2027-01-10T12:00")
        with mock.patch.object(clock, "now", return_value=sunday_noon):
            service.create_availability(
                desk(),
                clinician_id=clinician,
                weekdays=[3],
                start_time=time(12),
                end_time=time(14),
                time_zone=None,
                location_id=None,
                valid_from=None,
                every_weeks=2,
            )
        found = diary.starts(diary.kind(minutes=120, grid=120), utc("2027-01-10"), utc("2027-02-11"), clinician)
        assert days(found) == ["2027-01-12", "2027-01-26", "2027-02-09"]

    def test_from_the_first_to_the_last_day_they_hold(self, diary: Diary) -> None:
        clinician = diary.clinician(office(valid_from=date(2027, 1, 6), valid_until=date(2027, 1, 8)))
        found = diary.starts(diary.kind(), MONDAY, MONDAY + 14 * DAY, clinician)
        assert days(found) == ["2027-01-06", "2027-01-07", "2027-01-08"]

    def test_on_29_february_in_leap_years(self, diary: Diary) -> None:
        clinician = diary.clinician(office())
        found = diary.starts(diary.kind(), utc("2028-02-28"), utc("2028-03-02"), clinician)
        assert days(found) == ["2028-02-28", "2028-02-29", "2028-03-01"]


class TestNoticeAndHorizon:
    """Neither too soon nor too far ahead."""

    def test_a_start_exactly_at_the_end_of_the_notice_is_offered(self, diary: Diary) -> None:
        clinician, kind = diary.clinician(office()), diary.kind(notice=60)
        nine = MONDAY + timedelta(hours=9)
        hour_before = nine - timedelta(hours=1)
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician, now=hour_before))[:5] == "09:00"
        later = diary.starts(kind, MONDAY, TOMORROW, clinician, now=hour_before + timedelta(microseconds=1))
        assert times(later)[:5] == "09:30"

    def test_without_notice_the_present_minute_is_offered_and_the_past_is_not(self, diary: Diary) -> None:
        clinician, kind = diary.clinician(office()), diary.kind()
        assert times(diary.starts(kind, MONDAY, TOMORROW, clinician, now=MONDAY + timedelta(hours=10))) == "10:00 10:30"

    @pytest.mark.parametrize(
        ("zone", "last"),
        [("Pacific/Honolulu", "2027-01-06"), ("UTC", "2027-01-07"), ("Pacific/Kiritimati", "2027-01-07")],
    )
    def test_the_last_day_is_counted_in_the_zone_of_the_clinician(self, diary: Diary, zone: str, last: str) -> None:
        """At three in the morning of 4 January in Greenwich it is still the 3rd in Honolulu."""
        clinician, kind = diary.clinician(Hours(zone=zone), zone=zone), diary.kind(horizon=3)
        found = readings(diary.starts(kind, MONDAY, MONDAY + 9 * DAY, clinician, now=MONDAY + timedelta(hours=3)), zone)
        weekday = date.fromisoformat(last).strftime("%a")
        assert found[-1].startswith(f"{weekday} 16:30")

    def test_the_widest_question_finds_what_lies_within_the_horizon(self, diary: Diary) -> None:
        clinician, kind = diary.clinician(office("09:00", "09:30")), diary.kind(horizon=550)
        found = diary.starts(kind, utc("1900-01-01"), utc("2200-12-31"), clinician, now=MONDAY)
        assert (found[0], found[-1], len(found)) == (
            MONDAY + timedelta(hours=9),
            MONDAY + timedelta(days=550, hours=9),
            551,
        )


class TestSessionZone:
    """The answer does not depend on the zone of the database session."""

    def test_a_claim_of_a_whole_day_counts_after_a_day_that_was_shorter(self, diary: Diary) -> None:
        """In New York 8 March 2026 had 23 hours."""
        clinician = diary.clinician(office("00:00", "00:00"))
        diary.taken(clinician, utc("2026-03-08T04:30"), 1440)
        db.session.execute(text("SELECT set_config('timezone', 'America/New_York', true)"))
        found = diary.starts(diary.kind(), utc("2026-03-09T04:00"), utc("2026-03-09T05:30"), clinician)
        assert times(found) == "04:30 05:00"


class TestWhose:
    """Among which clinicians is searched."""

    def test_by_start_and_then_by_clinician(self, diary: Diary) -> None:
        many = [diary.clinician(office("09:00", "10:00")) for _ in range(3)]
        found = diary.search(diary.kind(), MONDAY, TOMORROW)
        assert [(slot.start.minute, slot.clinician_id) for slot in found] == [
            (minute, one) for minute in (0, 30) for one in sorted(many)
        ]

    def test_only_those_asked_for(self, diary: Diary) -> None:
        first, _noise, third = (diary.clinician(office("09:00", "09:30")) for _ in range(3))
        found = diary.search(diary.kind(), MONDAY, TOMORROW, first, third)
        assert {slot.clinician_id for slot in found} == {first, third}

    def test_only_those_of_a_specialty_however_it_is_spelt(self, diary: Diary) -> None:
        skin = diary.clinician(office("09:00", "09:30"), specialty="Dermatology")
        diary.clinician(office("09:00", "09:30"), specialty="Cardiology")
        found = diary.search(diary.kind(), MONDAY, TOMORROW, specialty="dermatoLOGY")
        assert [slot.clinician_id for slot in found] == [skin]

    def test_nobody_whose_account_is_closed(self, diary: Diary) -> None:
        gone, here = (diary.clinician(office("09:00", "09:30")) for _ in range(2))
        db.session.execute(update(User).where(User.id == gone).values(active=False))
        assert [slot.clinician_id for slot in diary.search(diary.kind(), MONDAY, TOMORROW)] == [here]

    def test_a_claim_takes_one_clinicians_time_only(self, diary: Diary) -> None:
        busy, free = (diary.clinician(office("09:00", "09:30")) for _ in range(2))
        diary.taken(busy, MONDAY + timedelta(hours=9))
        assert [slot.clinician_id for slot in diary.search(diary.kind(), MONDAY, TOMORROW)] == [free]


class TestFromAndTo:
    """The time that is asked for."""

    def test_begins_with_from_and_ends_before_to(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "12:00"))
        asked = (MONDAY + timedelta(hours=9, minutes=30), MONDAY + timedelta(hours=11))
        assert times(diary.starts(diary.kind(), *asked, clinician)) == "09:30 10:00 10:30"

    def test_a_visit_may_last_beyond_to(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "12:00"))
        asked = (MONDAY, MONDAY + timedelta(hours=9, minutes=1))
        assert times(diary.starts(diary.kind(minutes=120), *asked, clinician)) == "09:00"

    def test_from_inside_an_opening_keeps_its_grid(self, diary: Diary) -> None:
        clinician = diary.clinician(office("09:00", "11:00"))
        asked = (MONDAY + timedelta(hours=9, minutes=1), TOMORROW)
        assert times(diary.starts(diary.kind(), *asked, clinician)) == "09:30 10:00 10:30"


class TestOverHttp:
    """What a caller of the API sees of it."""

    def test_all_pages_together_are_one_big_page(self, clinic: Clinic) -> None:
        kind = clinic.appointment_type()
        for _ in range(3):
            clinic.hours(clinic.clinician())
        asked = {"appointment_type_id": kind["id"], "from_": day_after(3), "to": day_after(7)}
        whole = clinic.admin.get("/slots", limit=200, **asked).get_json()
        paged, cursor = [], None
        while True:
            page = clinic.admin.get("/slots", limit=7, cursor=cursor, **asked).get_json()
            paged += page["items"]
            cursor = page["next"]
            if not cursor:
                break
        assert (len(whole["items"]), whole["next"]) == (4 * 16 * 3, None)
        assert paged == whole["items"]

    def test_an_answer_is_in_utc_with_where_and_whose(self, clinic: Clinic) -> None:
        site = clinic.location()
        clinician = clinic.clinician(time_zone="Asia/Kathmandu", location_id=site["id"])
        clinic.hours(clinician, start_time="09:00", end_time="09:30")
        kind = clinic.appointment_type()
        answer = clinic.admin.get(
            "/slots",
            appointment_type_id=kind["id"],
            from_=day_after(3, "00:00", "+05:45"),
            to=day_after(4, "00:00", "+05:45"),
        )
        assert answer.get_json() == {
            "items": [
                {
                    "clinician_id": clinician.id,
                    "location_id": site["id"],
                    "start": day_after(3, "03:15"),
                    "end": day_after(3, "03:45"),
                }
            ],
            "next": None,
        }

    def test_clinicians_are_offered_their_own_diary_only(self, clinic: Clinic) -> None:
        own, other, kind = clinic.clinician(), clinic.clinician(), clinic.appointment_type()
        clinic.hours(own)
        clinic.hours(other)
        asked = {"appointment_type_id": kind["id"], "from_": day_after(3), "to": day_after(4)}
        for whose, seen in [(None, {own.id}), ([own.id, other.id], {own.id}), ([other.id], set())]:
            items = own.get("/slots", clinician_id=whose, **asked).get_json()["items"]
            assert {slot["clinician_id"] for slot in items} == seen

    @pytest.mark.parametrize("role", [Role.NURSE, Role.RECEPTIONIST, Role.PATIENT])
    def test_desk_and_patients_are_offered_everybody(self, clinic: Clinic, role: Role) -> None:
        many, kind = [clinic.clinician() for _ in range(2)], clinic.appointment_type()
        for one in many:
            clinic.hours(one)
        asked = {"appointment_type_id": kind["id"], "from_": day_after(3), "to": day_after(4)}
        items = clinic.user(role).get("/slots", **asked).get_json()["items"]
        assert {slot["clinician_id"] for slot in items} == {one.id for one in many}

    def test_an_auditor_is_not(self, clinic: Clinic) -> None:
        asked = {"appointment_type_id": str(UUID(int=1)), "from_": day_after(3), "to": day_after(4)}
        assert clinic.user(Role.AUDITOR).get("/slots", **asked).status_code == 403

    def test_another_organisation_offers_nobody(self, clinic: Clinic, other_clinic: Clinic) -> None:
        clinic.hours(clinic.clinician())
        own, foreign = clinic.appointment_type(), other_clinic.appointment_type()
        asked = {"from_": day_after(3), "to": day_after(4)}
        assert len(clinic.admin.get("/slots", appointment_type_id=own["id"], **asked).get_json()["items"]) == 16
        assert other_clinic.admin.get("/slots", appointment_type_id=foreign["id"], **asked).get_json()["items"] == []
        unknown = other_clinic.admin.get("/slots", appointment_type_id=own["id"], **asked)
        assert (unknown.status_code, unknown.get_json()["code"]) == (404, "not_found")

    def test_a_deactivated_clinician_is_gone(self, clinic: Clinic) -> None:
        clinician, kind = clinic.clinician(), clinic.appointment_type()
        clinic.hours(clinician)
        assert len(clinic.free(kind, day_after(3), day_after(4))) == 16
        assert clinic.admin.post(f"/users/{clinician.id}/deactivate").status_code == 200
        assert clinic.free(kind, day_after(3), day_after(4)) == []

    def test_who_is_no_clinician_any_more_is_gone(self, clinic: Clinic) -> None:
        clinician, kind, patient = clinic.clinician(), clinic.appointment_type(), clinic.patient()
        clinic.hours(clinician)
        assert len(clinic.free(kind, day_after(3), day_after(4))) == 16
        assert clinic.admin.put(f"/users/{clinician.id}/roles", {"roles": ["nurse"]}).status_code == 200
        assert clinic.free(kind, day_after(3), day_after(4)) == []
        refused = clinic.admin.post("/appointments", clinic.booking(patient, clinician, kind, day_after(3, "12:00")))
        assert (refused.status_code, refused.get_json()["code"]) == (404, "not_found")

    @pytest.mark.parametrize(
        ("wrong", "pointer"),
        [
            ({"to": "2027-01-01T00:00:00Z"}, "/to"),
            ({"from_": "2027-01-01T00:00:00"}, "/from"),
            ({"from_": "yesterday"}, "/from"),
            ({"appointment_type_id": "flu"}, "/appointment_type_id"),
            ({"clinician_id": ["nobody"]}, "/clinician_id/0"),
            ({"cursor": "bm90aGluZw=="}, "/cursor"),
            ({"limit": "0"}, "/limit"),
            ({"room": "3"}, "/room"),
        ],
    )
    def test_a_wrong_question_is_told_where(self, clinic: Clinic, wrong: dict[str, Any], pointer: str) -> None:
        kind = clinic.appointment_type()
        asked = {"appointment_type_id": kind["id"], "from_": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z"}
        answer = clinic.admin.get("/slots", **asked | wrong)
        assert (answer.status_code, answer.get_json()["code"]) == (422, "invalid_request")
        assert [problem["pointer"] for problem in answer.get_json()["errors"]] == [pointer]


SITE = UUID(int=1)
"""Stands for the site of a diary that is not written yet."""
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
CHANGES = [
    date(2027, 3, 28),
    date(2026, 10, 25),
    date(2027, 3, 14),
    date(2026, 11, 1),
    date(2026, 10, 4),
    date(2027, 4, 4),
]
bounded = settings(derandomize=True, database=None, deadline=None, max_examples=40)


@dataclass(frozen=True)
class World:
    """A clinician's diary and a question about it."""

    zone: str
    hours: tuple[Hours, ...]
    taken: tuple[tuple[datetime, int], ...]
    off: tuple[tuple[datetime, int], ...]
    once: tuple[tuple[datetime, int], ...]
    closed_days: frozenset[date]
    kind: dict[str, int]
    now: datetime
    start: datetime
    until: datetime


def clock_times() -> st.SearchStrategy[str]:
    """Wall-clock times on five minutes, small hours more often."""
    minutes = st.one_of(st.integers(0, 287), st.integers(0, 60))
    return minutes.map(lambda five: f"{five * 5 // 60:02}:{five * 5 % 60:02}")


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Diaries around days on which clocks change, and ordinary ones."""
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from([*CHANGES, date(2026, 12, 31), date(2027, 1, 20)]))
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    hours = draw(
        st.lists(
            st.builds(
                Hours,
                start=clock_times(),
                end=clock_times(),
                zone=st.sampled_from([zone, zone, draw(st.sampled_from(ZONES))]),
                weekdays=st.one_of(st.just(EVERY_DAY), st.sets(st.integers(1, 7), min_size=1).map(tuple)),
                every_weeks=st.integers(1, 3),
                weeks_of_month=st.none() | st.sets(st.sampled_from([1, 2, 3, 4, 5, -1]), min_size=2).map(tuple),
                valid_from=st.none() | st.just(day),
                valid_until=st.none() | st.just(day),
            ),
            min_size=1,
            max_size=4,
        )
    )
    taken, at = [], midnight - DAY
    for pause, minutes in draw(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 60)), max_size=5)):
        at += pause * 5 * MINUTE
        taken.append((at, minutes * 5))
        at += minutes * 5 * MINUTE
    start = midnight + draw(st.integers(-12 * 12, 12 * 12)) * 5 * MINUTE
    kind = {
        "minutes": draw(st.sampled_from([5, 20, 30, 45, 90, 600])),
        "grid": draw(st.sampled_from([10, 15, 30, 50, 120])),
        "notice": draw(st.sampled_from([0, 0, 45, 600])),
        "horizon": draw(st.sampled_from([1, 2, 30])),
        "before": draw(st.sampled_from([0, 0, 5, 40])),
        "after": draw(st.sampled_from([0, 0, 10, 35])),
    }
    around = st.tuples(st.integers(-288, 288).map(lambda fives: midnight + fives * 5 * MINUTE), st.integers(1, 600))
    off = draw(st.lists(around, max_size=2))
    once = draw(st.lists(around, max_size=1))
    closed_days = draw(st.sets(st.sampled_from([day - DAY, day, day + DAY]), max_size=2))
    if draw(st.booleans()):
        hours = [replace(one, location_id=SITE) for one in hours]
    now = midnight - draw(st.integers(-36, 48)) * 35 * MINUTE
    until = start + draw(st.integers(1, 12 * 50)) * 5 * MINUTE
    return World(
        zone, tuple(hours), tuple(taken), tuple(off), tuple(once), frozenset(closed_days), kind, now, start, until
    )


class Written:
    """A world written into a diary."""

    def __init__(self, diary: Diary, world: World) -> None:
        self.diary, self.world = diary, world
        self.kind: Kind = diary.kind(**world.kind)
        site = diary.location()
        hours = [replace(one, location_id=one.location_id and site) for one in world.hours]
        self.clinician = diary.clinician(*hours, zone=world.zone)
        for kind, times in (("closed", world.off), ("open", world.once)):
            for start, minutes in times:
                diary.exception(self.clinician, kind, start, minutes)
        for day in world.closed_days:
            diary.closed(site, day)
        for start, minutes in world.taken:
            diary.taken(self.clinician, start, minutes)
        self.oracle = Oracle(world.zone, hours, world.taken, world.off, world.once, world.closed_days)

    def starts(self, start: datetime | None = None, until: datetime | None = None, **given: Any) -> list[datetime]:
        """What is offered."""
        asked = (start or self.world.start, until or self.world.until)
        return self.diary.starts(self.kind, *asked, self.clinician, now=self.world.now, **given)

    def expected(self) -> list[datetime]:
        """What the oracle would offer."""
        return self.oracle.starts(self.kind, self.world.start, self.world.until, self.world.now)


@pytest.fixture(scope="module")
def laboratory(app: Flask) -> Clinic:
    """The clinic in which worlds come and go."""
    return Clinic(app)


class TestProperties:
    """What holds in every diary."""

    @bounded
    @given(world=worlds())
    def test_what_is_offered_is_every_start_on_the_grid_that_fits(self, laboratory: Clinic, world: World) -> None:
        with open_diary(laboratory) as diary:
            written = Written(diary, world)
            assert written.starts() == written.expected()

    @bounded
    @given(world=worlds(), picks=st.lists(st.integers(0, 10_000), min_size=4, max_size=4))
    def test_what_is_offered_can_be_booked_and_what_does_not_fit_cannot(
        self, laboratory: Clinic, world: World, picks: list[int]
    ) -> None:
        with open_diary(laboratory) as diary:
            written, patient = Written(diary, world), diary.patient()
            offered = written.starts()
            span = (world.until - world.start) // (5 * MINUTE)
            anywhere = [world.start + (pick % span) * 5 * MINUTE for pick in picks]
            tried = [offered[pick % len(offered)] for pick in picks] if offered else []
            for start in [*tried, *anywhere]:
                booked = diary.can_book(patient, written.clinician, written.kind, start, world.now)
                assert booked == written.oracle.covers(written.kind, start, world.now)
                assert booked or start not in offered

    @bounded
    @given(world=worlds(), pick=st.integers(0, 10_000))
    def test_booking_removes_what_overlaps_it_and_cancelling_brings_it_back(
        self, laboratory: Clinic, world: World, pick: int
    ) -> None:
        with open_diary(laboratory) as diary:
            written, patient = Written(diary, world), diary.patient()
            before = written.starts()
            if not before:
                return
            start = before[pick % len(before)]
            length = (written.kind.minutes + written.kind.before + written.kind.after) * MINUTE
            booked = diary.book(patient, written.clinician, written.kind, start, world.now)
            assert written.starts() == [at for at in before if abs(at - start) >= length]
            claims.release(booked.id)
            assert written.starts() == before

    @bounded
    @given(world=worlds(), more=st.builds(Hours, start=clock_times(), end=clock_times(), zone=st.sampled_from(ZONES)))
    def test_more_hours_never_take_a_start_away(self, laboratory: Clinic, world: World, more: Hours) -> None:
        with open_diary(laboratory) as diary:
            written = Written(diary, world)
            before = written.starts()
            diary.works(written.clinician, more)
            assert set(before) <= set(written.starts())

    @bounded
    @given(world=worlds(), share=st.integers(0, 100), page=st.integers(1, 9))
    def test_parts_and_pages_make_the_whole_in_any_session_zone(
        self, laboratory: Clinic, world: World, share: int, page: int
    ) -> None:
        with open_diary(laboratory) as diary:
            written = Written(diary, world)
            whole = written.starts()
            middle = world.start + (world.until - world.start) * share // 100
            first = written.starts(until=middle) if middle > world.start else []
            last = written.starts(start=middle) if middle < world.until else []
            assert first + last == whole
            assert self.in_pages(written, page) == whole
            for zone in ("America/New_York", "Australia/Lord_Howe"):
                db.session.execute(text("SELECT set_config('timezone', :zone, true)"), {"zone": zone})
                assert written.starts() == whole

    def in_pages(self, written: Written, limit: int) -> list[datetime]:
        """The starts, a page at a time."""
        found: list[datetime] = []
        after = None
        while page := written.starts(limit=limit, after=after)[:limit]:
            found += page
            after = (page[-1], written.clinician)
        return found
