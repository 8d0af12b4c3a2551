"""The days on which clocks change, and the places where they are odd (scheduling.md 5.6).

Each opening is compared with an oracle in plain Python, and the famous days with what is written
here by hand (Casablanca in 2026, because newer zone data has no change of its clock in 2027). A
reading like `Sun 01:30+0100` is an instant as the wall clock on the spot shows it.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from flask import Flask

from tests.clinic import Clinic, day_after
from tests.scheduling.diary import Diary, Hours, Kind, Oracle, open_diary, readings, utc

CHANGES = [
    ("Europe/Berlin", "2027-03-28"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Asia/Kathmandu", "2027-01-04"),
    ("Asia/Kolkata", "2027-01-04"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Africa/Casablanca", "2026-03-22"),
    ("Europe/Dublin", "2026-10-25"),
    ("Europe/Dublin", "2027-03-28"),
    ("Africa/Cairo", "2026-04-24"),
    ("Asia/Beirut", "2026-03-29"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Nuuk", "2026-03-28"),
    ("Pacific/Apia", "2011-12-29"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Apia", "2011-12-31"),
    ("Pacific/Kiritimati", "2027-01-04"),
    ("Pacific/Honolulu", "2027-01-04"),
]
HOURS = [
    ("00:00", "06:00"),
    ("01:30", "03:30"),
    ("09:00", "17:00"),
    ("13:00", "18:00"),
    ("22:00", "06:00"),
    ("23:00", "05:00"),
]


@pytest.fixture(scope="module")
def clinic_of_the_table(app: Flask) -> Clinic:
    """One clinic for all days."""
    return Clinic(app)


@pytest.fixture
def diary(clinic_of_the_table: Clinic) -> Iterator[Diary]:
    """A diary in which any moment may be the present one."""
    with open_diary(clinic_of_the_table) as opened:
        yield opened


def on(day: str, start: str, end: str, zone: str) -> Hours:
    """Hours of one day only."""
    return Hours(
        start=start, end=end, zone=zone, valid_from=date.fromisoformat(day), valid_until=date.fromisoformat(day)
    )


class Found:
    """The free half hours of an opening, offered and expected."""

    def __init__(self, diary: Diary, zone: str, day: str, start: str, end: str, minutes: int = 30) -> None:
        hours = on(day, start, end, zone)
        kind = diary.kind(minutes=minutes, grid=minutes)
        clinician = diary.clinician(hours, zone=zone)
        midnight = utc(day)
        around = (midnight - timedelta(days=3), midnight + timedelta(days=4))
        now = midnight - timedelta(days=30)
        self.starts = diary.starts(kind, *around, clinician, now=now)
        self.expected = Oracle(zone, [hours]).starts(kind, *around, now)
        self.readings = readings(self.starts, zone)


class TestEveryDayOfTheTable:
    """All hours on all these days."""

    @pytest.mark.parametrize(("start", "end"), HOURS)
    @pytest.mark.parametrize(("zone", "day"), CHANGES)
    def test_offers_what_the_oracle_finds(self, diary: Diary, zone: str, day: str, start: str, end: str) -> None:
        found = Found(diary, zone, day, start, end)
        assert found.starts == found.expected
        assert len(set(found.readings)) == len(found.readings)
        assert bool(found.starts) == ((zone, day) != ("Pacific/Apia", "2011-12-30"))


class TestLengthOfANight:
    """00:00 to 06:00 is as long as the night really was."""

    @pytest.mark.parametrize(
        ("zone", "day", "minutes"),
        [
            ("Europe/Berlin", "2027-03-27", 360),
            ("Europe/Berlin", "2027-03-28", 300),
            ("Europe/Berlin", "2026-10-25", 420),
            ("America/New_York", "2026-03-08", 300),
            ("America/New_York", "2026-11-01", 420),
            ("Australia/Lord_Howe", "2026-10-04", 330),
            ("Australia/Lord_Howe", "2027-04-04", 390),
            ("Africa/Casablanca", "2026-02-15", 420),
            ("Africa/Casablanca", "2026-03-22", 300),
            ("Europe/Dublin", "2026-10-25", 420),
            ("Africa/Cairo", "2026-04-24", 300),
            ("Asia/Beirut", "2026-03-29", 300),
            ("America/Sao_Paulo", "2018-11-04", 300),
            ("Pacific/Apia", "2011-12-30", 0),
            ("Asia/Kolkata", "2027-01-04", 360),
        ],
    )
    def test_from_midnight_to_six(self, diary: Diary, zone: str, day: str, minutes: int) -> None:
        assert len(Found(diary, zone, day, "00:00", "06:00", minutes=10).starts) * 10 == minutes

    @pytest.mark.parametrize(
        ("zone", "day", "minutes"),
        [
            ("Europe/Berlin", "2027-03-26", 480),
            ("Europe/Berlin", "2027-03-27", 420),
            ("Europe/Berlin", "2026-10-24", 540),
            ("Australia/Lord_Howe", "2026-10-03", 450),
            ("America/Nuuk", "2026-03-28", 420),
        ],
    )
    def test_overnight_from_ten_to_six(self, diary: Diary, zone: str, day: str, minutes: int) -> None:
        assert len(Found(diary, zone, day, "22:00", "06:00", minutes=10).starts) * 10 == minutes


class TestSmallHours:
    """01:30 to 03:30, through the change itself."""

    @pytest.mark.parametrize(
        ("zone", "day", "shown"),
        [
            ("Europe/Berlin", "2027-03-28", "Sun 01:30+0100, Sun 03:00+0200"),
            (
                "Europe/Berlin",
                "2026-10-25",
                "Sun 01:30+0200, Sun 02:00+0200, Sun 02:30+0200, Sun 02:00+0100, Sun 02:30+0100, Sun 03:00+0100",
            ),
            ("America/New_York", "2026-03-08", "Sun 01:30-0500, Sun 03:00-0400"),
            (
                "America/New_York",
                "2026-11-01",
                "Sun 01:30-0400, Sun 01:00-0500, Sun 01:30-0500, Sun 02:00-0500, Sun 02:30-0500, Sun 03:00-0500",
            ),
            ("Australia/Lord_Howe", "2026-10-04", "Sun 01:30+1030, Sun 02:30+1100, Sun 03:00+1100"),
            (
                "Australia/Lord_Howe",
                "2027-04-04",
                "Sun 01:30+1100, Sun 01:30+1030, Sun 02:00+1030, Sun 02:30+1030, Sun 03:00+1030",
            ),
            (
                "Europe/Dublin",
                "2026-10-25",
                "Sun 01:30+0100, Sun 01:00+0000, Sun 01:30+0000, Sun 02:00+0000, Sun 02:30+0000, Sun 03:00+0000",
            ),
            ("Africa/Casablanca", "2026-03-22", "Sun 01:30+0000, Sun 03:00+0100"),
        ],
    )
    def test_no_time_is_offered_that_the_clock_skips_and_a_repeated_one_twice(
        self, diary: Diary, zone: str, day: str, shown: str
    ) -> None:
        assert ", ".join(Found(diary, zone, day, "01:30", "03:30").readings) == shown


class TestOpeningsInTheGap:
    """Hours that lie in the hour that is skipped, or end just after it."""

    @pytest.mark.parametrize(
        ("start", "end", "shown"),
        [
            ("02:00", "03:00", ""),
            ("02:30", "03:15", ""),
            ("02:30", "04:00", "Sun 03:30+0200"),
            ("01:30", "02:30", "Sun 01:30+0100, Sun 03:00+0200"),
        ],
    )
    def test_are_as_long_as_the_clock_lets_them(self, diary: Diary, start: str, end: str, shown: str) -> None:
        found = Found(diary, "Europe/Berlin", "2027-03-28", start, end)
        assert ", ".join(found.readings) == shown
        assert found.starts == found.expected


class TestMidnightThatIsSkipped:
    """Where the clock jumps at midnight, the opening begins at one."""

    @pytest.mark.parametrize(
        ("zone", "day", "first"),
        [
            ("Africa/Cairo", "2026-04-24", "Fri 01:00+0300"),
            ("Asia/Beirut", "2026-03-29", "Sun 01:00+0300"),
            ("America/Sao_Paulo", "2018-11-04", "Sun 01:00-0200"),
        ],
    )
    def test_begins_at_one(self, diary: Diary, zone: str, day: str, first: str) -> None:
        assert Found(diary, zone, day, "00:00", "06:00").readings[0] == first

    def test_an_opening_whose_start_is_skipped_into_the_next_day_is_not_lost(self, diary: Diary) -> None:
        """In Nuuk the clock goes from 23:00 on Saturday to 00:00 on Sunday."""
        night = Found(diary, "America/Nuuk", "2026-03-28", "23:00", "05:00")
        assert (night.readings[0], night.readings[-1]) == ("Sun 00:00-0100", "Sun 04:30-0100")


class TestDayThatIsSkipped:
    """Samoa had no 30 December 2011."""

    def test_opens_nothing_not_even_a_second_time_on_the_next_day(self, diary: Diary) -> None:
        hours = Hours(zone="Pacific/Apia", weekdays=(4, 5, 6))
        kind = diary.kind(minutes=240, grid=240)
        clinician = diary.clinician(hours, zone="Pacific/Apia")
        found = diary.starts(kind, utc("2011-12-29"), utc("2012-01-02"), clinician)
        assert readings(found, "Pacific/Apia") == [
            "Thu 09:00-1000",
            "Thu 13:00-1000",
            "Sat 09:00+1400",
            "Sat 13:00+1400",
        ]

    def test_the_night_before_it_lasts_its_hours_and_is_found_from_its_end(self, diary: Diary) -> None:
        kind = diary.kind()
        night = on("2011-12-29", "22:00", "06:00", "Pacific/Apia")
        clinician = diary.clinician(night, zone="Pacific/Apia")
        found = diary.starts(kind, utc("2011-12-30T15:00"), utc("2012-01-02"), clinician)
        assert readings(found, "Pacific/Apia") == ["Sat 05:00+1400", "Sat 05:30+1400"]


class TestWorkingDayAfterAChange:
    """From nine, or from one in the afternoon, hours stay where the wall clock has them."""

    @pytest.mark.parametrize(
        ("zone", "day"), [change for change in CHANGES if change != ("Pacific/Apia", "2011-12-30")]
    )
    def test_begins_when_the_clock_says_so(self, diary: Diary, zone: str, day: str) -> None:
        for start in ("09:00", "13:00"):
            found = Found(diary, zone, day, start, "17:00").readings
            assert found[0][4:9] == start
            assert found[-1][4:9] == "16:30"
            assert len(found) == 2 * (17 - int(start[:2]))

    @pytest.mark.parametrize(
        ("zone", "first"), [("Asia/Kathmandu", "2027-01-04T03:15"), ("Asia/Kolkata", "2027-01-04T03:30")]
    )
    def test_the_grid_lies_on_the_hour_of_the_place_not_of_greenwich(self, diary: Diary, zone: str, first: str) -> None:
        assert Found(diary, zone, "2027-01-04", "09:00", "17:00", minutes=60).starts[0] == utc(first)


class TestAcrossTheDateLine:
    """A patient in Kiritimati and a clinician in Honolulu share the clock but never the date."""

    def test_both_see_the_same_instants_on_different_days(self, diary: Diary) -> None:
        shown = Found(diary, "Pacific/Honolulu", "2027-01-04", "09:00", "10:00")
        assert shown.readings == ["Mon 09:00-1000", "Mon 09:30-1000"]
        assert readings(shown.starts, "Pacific/Kiritimati") == ["Tue 09:00+1400", "Tue 09:30+1400"]

    def test_the_patient_may_ask_and_book_by_their_own_clock(self, clinic: Clinic) -> None:
        clinician = clinic.clinician(time_zone="Pacific/Honolulu")
        clinic.hours(clinician)
        kind = clinic.appointment_type(duration_minutes=240)
        patient, caller = clinic.patient_with_account()
        asked = {
            "appointment_type_id": kind["id"],
            "from_": day_after(10, "00:00", "+14:00"),
            "to": day_after(11, "00:00", "+14:00"),
        }
        starts = [slot["start"] for slot in caller.get("/slots", **asked).get_json()["items"]]
        assert starts == [day_after(9, "19:00"), day_after(9, "23:00")]
        booked = caller.post(
            "/appointments", clinic.booking(patient, clinician, kind, day_after(10, "09:00", "+14:00"))
        )
        assert (booked.status_code, booked.get_json()["start"]) == (201, starts[0])


class TestChangedZone:
    """A clinician's hours move to another zone; what is booked stays at its instant."""

    def test_appointments_stay_and_only_what_is_free_moves(self, clinic: Clinic) -> None:
        clinician, kind, patient = clinic.clinician(time_zone="UTC"), clinic.appointment_type(), clinic.patient()
        hours = clinic.hours(clinician, start_time="09:00", end_time="11:00")
        booked = clinic.appointment(patient, clinician, kind, day_after(5, "09:30"))
        changed = clinic.admin.patch(f"/availabilities/{hours['id']}", {"time_zone": "Asia/Karachi"})
        assert changed.status_code == 200
        assert clinic.admin.get(f"/appointments/{booked['id']}").get_json() == booked
        free = clinic.free(kind, day_after(5), day_after(6))
        assert free == [day_after(5, at) for at in ("04:00", "04:30", "05:00", "05:30")]
        clinic.hours(clinician, start_time="09:00", end_time="11:00", time_zone="UTC")
        assert day_after(5, "09:30") not in clinic.free(kind, day_after(5), day_after(6))


class TestBookingOnAChange:
    """The wall-clock time that was meant is kept beside the instant."""

    def test_both_copies_of_a_repeated_time_can_be_booked(self, diary: Diary) -> None:
        kind, patient = diary.kind(), diary.patient()
        clinician = diary.clinician(on("2026-10-25", "01:30", "03:30", "Europe/Berlin"))
        now = datetime(2026, 10, 1, tzinfo=UTC)
        first, second = (
            diary.book(patient, clinician, kind, utc(f"2026-10-25T{at}"), now) for at in ("00:30", "01:30")
        )
        assert first.local_start == second.local_start == datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - a wall clock
        assert second.start_at - first.start_at == timedelta(hours=1)
        assert self.free(diary, kind, clinician) == ["00:00", "01:00", "02:00", "23:30"]

    def free(self, diary: Diary, kind: Kind, clinician: object) -> list[str]:
        """What is left of the day, in UTC."""
        left = diary.starts(kind, utc("2026-10-24T12:00"), utc("2026-10-25T12:00"))
        return sorted(f"{start:%H:%M}" for start in left)
