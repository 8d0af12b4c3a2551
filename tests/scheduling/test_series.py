"""Appointments that recur: by the wall clock, all or some of them, and changed from one of them on."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import Allocation, Appointment
from medical.scheduling.recurrence import LONGEST, Frequency, count_until, instant_of, nth
from medical.scheduling.series_models import Series
from tests.clinic import Caller, Clinic, Statements, day_after
from tests.scheduling.racing import RACERS, Diary, tally
from tests.scheduling.test_routes import Practice, code_of

WEEKS = 4


class Weekly(Practice):
    """A practice whose patient comes every week at nine, four times."""

    def series(self, at: str = "09:00", day: int = 3, **given: Any) -> dict[str, Any]:
        """The body of a series."""
        return self.body(at, day) | {"frequency": "weekly", "count": WEEKS} | given

    def ask(self, caller: Caller | None = None, *, dry_run: bool = False, **given: Any) -> TestResponse:
        """The answer to it."""
        return (caller or self.desk).post(f"/series{'?dry_run=true' * dry_run}", self.series(**given))

    def made(self, **given: Any) -> dict[str, Any]:
        """A series that was booked."""
        answer = self.ask(**given)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def change(self, series: dict[str, Any], verb: str, occurrence: int, **given: Any) -> TestResponse:
        """A change from this occurrence on."""
        body = {"from_occurrence": occurrence} | ({"reason": "moved away"} if verb == "cancel" else {})
        return self.desk.post(f"/series/{series['id']}/{verb}", body | given)

    def starts(self, series: dict[str, Any]) -> list[str]:
        """When its appointments are now."""
        return starts(self.desk.get(f"/series/{series['id']}").get_json())

    def taken(self, week: int, at: str = "09:00", **given: Any) -> dict[str, Any]:
        """Another patient has the clinician's time in this week of the series."""
        return self.booked(at, 3 + 7 * week, patient_id=self.clinic.patient()["id"], **given)

    def rows(self) -> tuple[int, int, int]:
        """How many series, appointments and claims there are."""
        with self.clinic.app.app_context(), scoped(Scope(self.clinic.organization_id)):
            counts = [db.session.scalar(select(func.count()).select_from(one)) for one in TABLES]
            db.session.rollback()
        return counts[0] or 0, counts[1] or 0, counts[2] or 0


TABLES = (Series, Appointment, Allocation)


@pytest.fixture
def practice(clinic: Clinic) -> Weekly:
    """A practice with nothing booked."""
    return Weekly(clinic)


def starts(series: dict[str, Any]) -> list[str]:
    """The starts of the occurrences that have an appointment."""
    return [one["appointment"]["start"] for one in series["occurrences"] if one["appointment"]]


def codes(occurrence: dict[str, Any]) -> list[str]:
    """What stands in the way of it."""
    return [one["code"] for one in occurrence["reasons"]]


def weekly(at: str = "09:00", *, of: range = range(WEEKS), day: int = 3) -> list[str]:
    """The instants of these weeks."""
    return [day_after(day + 7 * week, at) for week in of]


class TestRecurrence:
    """Wall-clock times, whatever the calendar does."""

    @staticmethod
    def days(first: str, frequency: str, interval: int, count: int) -> list[str]:
        begin = datetime.fromisoformat(first)
        return [f"{nth(begin, Frequency(frequency), interval, number):%Y-%m-%d}" for number in range(count)]

    def test_months_that_are_too_short_have_it_on_their_last_day(self) -> None:
        assert self.days("2027-01-31", "monthly", 1, 5) == [
            "2027-01-31",
            "2027-02-28",
            "2027-03-31",
            "2027-04-30",
            "2027-05-31",
        ]

    def test_the_29th_in_a_leap_year_and_in_others(self) -> None:
        assert self.days("2028-01-29", "monthly", 1, 3) == ["2028-01-29", "2028-02-29", "2028-03-29"]
        assert self.days("2028-02-29", "monthly", 12, 5)[1:] == ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]

    def test_quarters_go_over_new_year(self) -> None:
        assert self.days("2026-11-30", "monthly", 3, 3) == ["2026-11-30", "2027-02-28", "2027-05-30"]

    def test_alternate_weeks_pass_week_53(self) -> None:
        assert self.days("2026-12-17", "weekly", 2, 3) == ["2026-12-17", "2026-12-31", "2027-01-14"]
        assert date(2026, 12, 31).isocalendar().week == 53

    @pytest.mark.parametrize(
        ("zone", "start", "expected"),
        [
            ("Europe/Berlin", "2026-10-18T09:00", ["+0200", "+0100", "+0100"]),
            ("America/New_York", "2027-03-07T09:00", ["-0500", "-0400", "-0400"]),
            ("Australia/Lord_Howe", "2027-03-28T09:00", ["+1100", "+1030", "+1030"]),
            ("Asia/Kathmandu", "2027-03-28T09:00", ["+0545", "+0545", "+0545"]),
        ],
    )
    def test_the_wall_clock_stays_when_the_clocks_change(self, zone: str, start: str, expected: list[str]) -> None:
        first = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
        found = [instant_of(first, zone, Frequency.WEEKLY, 1, number).astimezone(ZoneInfo(zone)) for number in range(3)]
        assert [f"{one:%H:%M%z}" for one in found] == [f"09:00{offset}" for offset in expected]

    def test_a_skipped_time_moves_forward_by_the_gap_and_back(self) -> None:
        first = datetime(2027, 3, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        found = [instant_of(first, "Europe/Berlin", Frequency.DAILY, 1, number) for number in range(3)]
        assert [f"{one.astimezone(UTC):%d %H:%M}" for one in found] == ["27 01:30", "28 01:30", "29 00:30"]

    def test_a_repeated_time_is_the_first_but_for_the_start_itself(self) -> None:
        second = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
        assert instant_of(second, "Europe/Berlin", Frequency.DAILY, 1, 0) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
        before = datetime(2026, 10, 24, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        after = instant_of(before, "Europe/Berlin", Frequency.DAILY, 1, 1)
        assert after == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    @given(
        first=st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2040-01-01")),
        frequency=st.sampled_from(Frequency),
        interval=st.integers(1, 52),
        days=st.integers(0, 4000),
    )
    def test_the_last_day_says_how_many_there_are(
        self, first: datetime, frequency: Frequency, interval: int, days: int
    ) -> None:
        last_day = (first + timedelta(days=days)).date()
        count = count_until(first, frequency, interval, last_day)
        times = [nth(first, frequency, interval, number) for number in range(count + 1)]
        assert times == sorted(set(times))
        assert {time.time() for time in times} == {first.time()}
        assert all(time.date() <= last_day for time in times[:-1])
        assert count == LONGEST + 1 or times[-1].date() > last_day


class TestBooking:
    """All of it at once."""

    def test_every_occurrence_is_an_appointment_that_knows_its_series(self, practice: Weekly) -> None:
        made = practice.made(reason="physiotherapy")
        assert starts(made) == weekly()
        visits = [one["appointment"] for one in made["occurrences"]]
        assert {one["series_id"] for one in visits} == {made["id"]}
        assert [one["occurrence"] for one in visits] == [1, 2, 3, 4]
        assert {one["status"] for one in visits} == {"booked"}
        assert practice.desk.get(f"/appointments/{visits[2]['id']}").get_json() == visits[2]
        assert practice.desk.get(f"/series/{made['id']}").get_json() == made
        assert practice.rows() == (1, WEEKS, 2 * WEEKS)

    def test_until_a_last_day(self, practice: Weekly) -> None:
        assert starts(practice.made(count=None, until=day_after(3 + 14)[:10])) == weekly(of=range(3))

    @pytest.mark.parametrize("days", [2, 3, 9, 7 * LONGEST + 3])
    def test_a_last_day_that_gives_too_few_or_too_many(self, practice: Weekly, days: int) -> None:
        refused = practice.ask(count=None, until=day_after(days)[:10])
        assert code_of(refused) == (422, "invalid_request")
        assert [one["pointer"] for one in refused.get_json()["errors"]] == ["/until"]

    def test_either_a_count_or_a_last_day(self, practice: Weekly) -> None:
        for wrong in ({"count": None}, {"until": day_after(30)[:10]}):
            assert [one["pointer"] for one in practice.ask(**wrong).get_json()["errors"]] == ["/count"]

    def test_the_wall_clock_of_the_clinician_is_kept(self, clinic: Clinic) -> None:
        """Over a whole year, so that the clocks change at least twice."""
        practice = Weekly(clinic)
        practice.clinician = clinic.clinician(time_zone="Europe/Berlin")
        clinic.hours(practice.clinician)
        first = datetime.fromisoformat(day_after(3, "10:00")).replace(tzinfo=ZoneInfo("Europe/Berlin"))
        made = practice.made(start=first.isoformat(), count=53)
        times = [datetime.fromisoformat(one).astimezone(ZoneInfo("Europe/Berlin")) for one in starts(made)]
        assert {f"{one:%H:%M}" for one in times} == {"10:00"}
        assert len(times) == 53
        assert len({one.utcoffset() for one in times}) == 2

    def test_the_length_does_not_cost_statements(self, practice: Weekly, statements: Statements) -> None:
        counts = []
        for count, at in ((2, "09:00"), (70, "10:00")):
            statements.clear()
            made = practice.made(at=at, count=count)
            assert len(starts(made)) == count
            counts.append(statements.count)
        statements.clear()
        assert practice.change(made, "reschedule", 2, start=day_after(10, "11:00")).status_code == 200
        counts.append(statements.count)
        statements.clear()
        assert practice.change(made, "cancel", 2).status_code == 200
        counts.append(statements.count)
        assert counts[0] == counts[1]
        assert max(counts) <= 25

    def test_a_type_that_needs_approval_is_requested(self, practice: Weekly) -> None:
        practice.kind = practice.clinic.appointment_type(needs_approval=True)
        made = practice.made()
        assert {one["appointment"]["status"] for one in made["occurrences"]} == {"requested"}
        assert code_of(practice.change(made, "reschedule", 1, start=day_after(4))) == (409, "invalid_transition")
        assert practice.change(made, "cancel", 1).status_code == 200

    def test_each_takes_a_room_of_its_own_time(self, clinic: Clinic) -> None:
        practice, site = Weekly(clinic), clinic.location()
        first, second = sorted(clinic.room(site)["id"] for _ in range(2))
        practice.kind = clinic.appointment_type(needs_room=True)
        practice.clinician = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(practice.clinician)
        colleague = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(colleague)
        practice.taken(1, clinician_id=colleague.id)
        made = practice.made()
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            query = select(Allocation.bookable_id).join(Appointment, Appointment.id == Allocation.appointment_id)
            query = query.where(Appointment.series_id.is_not(None), Allocation.kind == "room")
            rooms = [str(one) for one in db.session.scalars(query.order_by(Allocation.start_at))]
            db.session.rollback()
        assert rooms == [first, second, first, first]
        assert len(starts(made)) == WEEKS


class TestConflicts:
    """What becomes of it when some occurrences cannot be booked."""

    def test_fail_books_none_and_tells_every_refused_one(self, practice: Weekly) -> None:
        practice.taken(1)
        practice.booked("09:15", 3 + 21, clinician_id=another(practice).id)
        before = practice.rows()
        refused = practice.ask()
        assert code_of(refused) == (409, "series_refused")
        told = refused.get_json()["refused"]
        assert [(one["occurrence"], one["start"], codes(one)) for one in told] == [
            (2, day_after(10, "09:00"), ["slot_taken"]),
            (4, day_after(24, "09:00"), ["patient_busy"]),
        ]
        assert practice.rows() == before

    def test_skip_leaves_them_out_and_names_them(self, practice: Weekly) -> None:
        practice.taken(1)
        made = practice.made(on_conflict="skip")
        assert starts(made) == [weekly()[n] for n in (0, 2, 3)]
        left_out = made["occurrences"][1]
        assert (left_out["occurrence"], left_out["appointment"], codes(left_out)) == (2, None, ["slot_taken"])
        assert [one["appointment"]["occurrence"] for one in made["occurrences"] if one["appointment"]] == [1, 3, 4]

    def test_a_holiday_of_the_site_is_skipped(self, clinic: Clinic) -> None:
        practice, site = Weekly(clinic), clinic.location()
        practice.clinician = clinic.clinician(time_zone="UTC", location_id=site["id"])
        clinic.hours(practice.clinician)
        day = {"day": day_after(17)[:10], "name": "Outing"}
        assert clinic.admin.post(f"/locations/{site['id']}/holidays", day).status_code == 201
        made = practice.made(on_conflict="skip")
        assert [codes(one) for one in made["occurrences"]] == [[], [], ["outside_availability"], []]

    def test_propose_names_the_nearest_free_times(self, practice: Weekly) -> None:
        practice.taken(1)
        practice.taken(1, "09:30")
        practice.booked("10:30", 10, clinician_id=another(practice).id)
        made = practice.made(at="09:30", on_conflict="propose")
        proposed = made["occurrences"][1]["proposed"]
        assert [one["start"] for one in proposed] == [day_after(10, at) for at in ("10:00", "11:00", "11:30")]
        assert [one["proposed"] for one in made["occurrences"] if one["appointment"]] == [[], [], []]
        for time in proposed:
            assert practice.book(at=time["start"][11:16], day=10).status_code == 201

    def test_propose_looks_before_the_time_too(self, practice: Weekly) -> None:
        practice.taken(1, "12:00")
        made = practice.made(at="12:00", on_conflict="propose")
        proposed = [one["start"] for one in made["occurrences"][1]["proposed"]]
        assert proposed == [day_after(10, at) for at in ("11:00", "11:30", "12:30")]

    def test_when_none_can_be_had_nothing_is_there(self, practice: Weekly) -> None:
        for mode in ("skip", "propose"):
            refused = practice.ask(at="20:00", on_conflict=mode)
            assert code_of(refused) == (409, "series_refused")
            assert [codes(one) for one in refused.get_json()["refused"]] == [["outside_availability"]] * WEEKS
        assert practice.rows()[0] == 0

    def test_nothing_of_the_other_patient_is_told(self, practice: Weekly) -> None:
        taken = practice.taken(1, reason="a secret")
        own, caller = practice.clinic.patient_with_account()
        refused = caller.post("/series", practice.series(patient_id=own["id"]))
        assert code_of(refused) == (409, "series_refused")
        for word in (taken["id"], taken["patient_id"], "secret"):
            assert word not in refused.text

    @pytest.mark.parametrize("mode", ["fail", "skip", "propose"])
    def test_a_dry_run_tells_the_same_and_books_nothing(self, practice: Weekly, mode: str) -> None:
        practice.taken(1)
        before = practice.rows()
        tried = practice.ask(dry_run=True, on_conflict=mode)
        assert practice.rows() == before
        real = practice.ask(on_conflict=mode)
        assert tried.status_code == real.status_code
        if mode == "fail":
            assert tried.get_json()["refused"] == real.get_json()["refused"]
            return
        assert (tried.get_json()["id"], tried.get_json()["dry_run"]) == (None, True)
        for planned, booked in zip(tried.get_json()["occurrences"], real.get_json()["occurrences"], strict=True):
            assert planned == booked | {"appointment": None}

    def test_an_expired_hold_is_in_nobodys_way(self, practice: Weekly) -> None:
        body = {"appointment_type_id": practice.kind["id"], "clinician_id": practice.clinician.id}
        assert practice.clinic.admin.post("/holds", body | {"start": day_after(10, "09:00")}).status_code == 201
        assert code_of(practice.ask()) == (409, "series_refused")
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        with practice.clinic.at(later) as then:
            assert practice.ask(then(practice.desk)).status_code == 201


def another(practice: Weekly) -> Caller:
    """A colleague with the same hours."""
    colleague = practice.clinic.clinician(time_zone="UTC")
    practice.clinic.hours(colleague)
    return colleague


class TestLimits:
    """What the type says counts for a series as for single appointments."""

    def test_as_many_as_the_patient_may_have_ahead(self, practice: Weekly) -> None:
        practice.kind = practice.clinic.appointment_type(max_per_patient=3)
        practice.booked("15:00", 5)
        assert [one["occurrence"] for one in practice.ask().get_json()["refused"]] == [3, 4]
        made = practice.made(on_conflict="skip")
        assert [codes(one) for one in made["occurrences"]] == [[], [], ["patient_limit"], ["patient_limit"]]
        assert practice.change(made, "reschedule", 1, start=day_after(3, "10:00")).status_code == 200

    def test_days_that_are_full(self, practice: Weekly) -> None:
        practice.kind = practice.clinic.appointment_type(max_per_day=1)
        practice.taken(2, "15:00")
        refused = practice.ask(on_conflict="fail").get_json()["refused"]
        assert [(one["occurrence"], codes(one)) for one in refused] == [(3, ["day_full"])]

    def test_the_horizon_and_the_notice(self, practice: Weekly) -> None:
        practice.kind = practice.clinic.appointment_type(horizon_days=12, min_notice_minutes=5 * 24 * 60)
        made = practice.made(on_conflict="skip")
        assert [codes(one) for one in made["occurrences"]] == [
            ["too_soon"],
            [],
            ["beyond_horizon"],
            ["beyond_horizon"],
        ]

    def test_visits_of_a_day_do_not_overlap_each_other(self, practice: Weekly) -> None:
        """Every day with buffers, each claims into the next."""
        practice.clinic.hours(practice.clinician, start_time="00:00", end_time="00:00")
        practice.kind = practice.clinic.appointment_type(duration_minutes=1440, buffer_after_minutes=30)
        made = practice.made(frequency="daily", on_conflict="skip", at="00:00")
        assert len(starts(made)) < WEEKS
        assert all(codes(one) == ["slot_taken"] for one in made["occurrences"] if not one["appointment"])


class TestWho:
    """Whoever may book one may book a series, and nobody else."""

    def test_patients_for_themselves(self, practice: Weekly) -> None:
        own, caller = practice.clinic.patient_with_account()
        made = caller.post("/series", practice.series(patient_id=own["id"]))
        assert made.status_code == 201
        assert caller.get(f"/series/{made.get_json()['id']}").status_code == 200
        assert code_of(caller.post("/series", practice.series("11:00"))) == (404, "not_found")

    def test_clinicians_in_their_own_diary(self, practice: Weekly) -> None:
        made = practice.ask(practice.clinician)
        assert made.status_code == 201
        colleague = another(practice)
        assert code_of(practice.ask(colleague, at="11:00")) == (403, "not_your_diary")
        assert code_of(colleague.get(f"/series/{made.get_json()['id']}")) == (404, "not_found")

    def test_a_sensitive_one_is_not_for_who_acts_for_the_patient(self, practice: Weekly) -> None:
        parent = practice.clinic.user(Role.PATIENT)
        child = practice.clinic.patient(birth_date=day_after(-3000)[:10])
        proxy = practice.clinic.propose_proxy(child, parent)
        approver = practice.clinic.user(Role.ADMIN)
        approved = approver.post(f"/patients/{child['id']}/proxies/{proxy['id']}/approve")
        assert approved.status_code == 200, approved.text
        open_one = practice.made(patient_id=child["id"])
        closed_one = practice.made(patient_id=child["id"], at="11:00", sensitive=True)
        assert parent.get(f"/series/{open_one['id']}").status_code == 200
        assert code_of(parent.get(f"/series/{closed_one['id']}")) == (404, "not_found")

    def test_the_reason_is_shown_to_who_may_know_it(self, practice: Weekly) -> None:
        made = practice.made(reason="physiotherapy")
        shown = practice.clinic.admin.get(f"/series/{made['id']}").get_json()
        assert {one["appointment"]["reason"] for one in made["occurrences"]} == {"physiotherapy"}
        assert {one["appointment"]["reason"] for one in shown["occurrences"]} == {None}

    def test_too_late_for_the_patient_not_for_the_desk(self, practice: Weekly) -> None:
        practice.kind = practice.clinic.appointment_type(cancellation_cutoff_minutes=5 * 24 * 60)
        own, caller = practice.clinic.patient_with_account()
        made = practice.made(patient_id=own["id"])
        for verb, body in (("cancel", {"reason": "flu"}), ("reschedule", {"start": day_after(4, "09:00")})):
            late = caller.post(f"/series/{made['id']}/{verb}", body | {"from_occurrence": 1})
            assert code_of(late) == (409, "cutoff_passed")
        assert caller.post(f"/series/{made['id']}/cancel", {"from_occurrence": 2, "reason": "flu"}).status_code == 200
        cancelled = practice.change(made, "cancel", 1).get_json()["occurrences"]
        assert [one["appointment"]["cancelled_late"] for one in cancelled] == [True]


class TestThisAndFollowing:
    """A change from one occurrence on."""

    def test_another_time(self, practice: Weekly) -> None:
        made = practice.made()
        moved = practice.change(made, "reschedule", 3, start=day_after(18, "14:00"), reason="holiday job")
        assert moved.status_code == 200, moved.text
        assert starts(moved.get_json()) == weekly("14:00", of=range(2, 4), day=4)
        assert practice.starts(made) == weekly(of=range(2)) + weekly("14:00", of=range(2, 4), day=4)
        assert [one["appointment"]["id"] for one in moved.get_json()["occurrences"]] == [
            one["appointment"]["id"] for one in made["occurrences"][2:]
        ]
        assert practice.taken(2)["start"] == day_after(17, "09:00")

    def test_onto_times_that_it_has_itself(self, practice: Weekly) -> None:
        made = practice.made()
        assert practice.change(made, "reschedule", 1, start=day_after(3, "09:15")).status_code == 200
        assert practice.change(made, "reschedule", 1, start=day_after(10, "09:15")).status_code == 200
        assert practice.starts(made) == weekly("09:15", day=10)

    def test_one_that_was_moved_alone_follows_the_others(self, practice: Weekly) -> None:
        made = practice.made()
        alone = made["occurrences"][2]["appointment"]
        assert (
            practice.desk.post(f"/appointments/{alone['id']}/reschedule", {"start": day_after(18, "16:00")}).status_code
            == 200
        )
        assert practice.change(made, "reschedule", 2, start=day_after(10, "10:00")).status_code == 200
        assert practice.starts(made) == [*weekly()[:1], *weekly("10:00")[1:]]

    def test_another_clinician_at_the_same_times(self, practice: Weekly) -> None:
        made, colleague = practice.made(), another(practice)
        moved = practice.change(made, "reschedule", 2, clinician_id=colleague.id).get_json()
        assert {one["appointment"]["clinician_id"] for one in moved["occurrences"]} == {colleague.id}
        assert practice.starts(made) == weekly()
        assert moved["clinician_id"] == colleague.id
        assert practice.clinician.get(f"/appointments/{made['occurrences'][0]['appointment']['id']}").status_code == 200

    def test_refused_all_stay_where_they_were(self, practice: Weekly) -> None:
        made = practice.made()
        practice.taken(2, "14:00")
        refused = practice.change(made, "reschedule", 2, start=day_after(10, "14:00"))
        assert code_of(refused) == (409, "series_refused")
        assert [(one["occurrence"], codes(one)) for one in refused.get_json()["refused"]] == [(3, ["slot_taken"])]
        assert practice.desk.get(f"/series/{made['id']}").get_json() == made
        assert practice.rows() == (1, WEEKS + 1, 2 * WEEKS + 2)

    def test_a_dry_run_moves_nothing(self, practice: Weekly) -> None:
        made = practice.made()
        body = {"from_occurrence": 2, "start": day_after(11, "10:00")}
        tried = practice.desk.post(f"/series/{made['id']}/reschedule?dry_run=true", body)
        assert tried.status_code == 200, tried.text
        assert [one["start"] for one in tried.get_json()["occurrences"]] == weekly("10:00", of=range(1, 4), day=4)
        assert practice.desk.get(f"/series/{made['id']}").get_json() == made

    def test_cancelling(self, practice: Weekly) -> None:
        made = practice.made()
        cancelled = practice.change(made, "cancel", 3)
        assert cancelled.status_code == 200
        now = practice.desk.get(f"/series/{made['id']}").get_json()["occurrences"]
        assert [one["appointment"]["status"] for one in now] == ["booked", "booked", "cancelled", "cancelled"]
        assert now[3]["appointment"]["status_reason"] == "moved away"
        assert practice.taken(2)["status"] == "booked"
        assert code_of(practice.change(made, "cancel", 3)) == (409, "none_ahead")

    def test_what_was_called_off_alone_stays_so(self, practice: Weekly) -> None:
        made = practice.made()
        alone = made["occurrences"][1]["appointment"]
        assert practice.act(alone, "cancel").status_code == 200
        assert practice.change(made, "reschedule", 1, start=day_after(3, "10:00")).status_code == 200
        now = practice.desk.get(f"/series/{made['id']}").get_json()["occurrences"]
        assert now[1]["appointment"]["start"] == day_after(10, "09:00")
        assert [one["appointment"]["status"] for one in now] == ["booked", "cancelled", "booked", "booked"]

    def test_what_is_over_stays_as_it_was(self, practice: Weekly) -> None:
        made = practice.made()
        with practice.clinic.at(day_after(11)) as then:
            body = {"from_occurrence": 1, "reason": "well again"}
            assert then(practice.desk).post(f"/series/{made['id']}/cancel", body).status_code == 200
        now = practice.desk.get(f"/series/{made['id']}").get_json()["occurrences"]
        assert [one["appointment"]["status"] for one in now] == ["booked", "booked", "cancelled", "cancelled"]

    def test_the_version_is_asked_for(self, practice: Weekly) -> None:
        made = practice.made()
        path, body = f"/series/{made['id']}", {"from_occurrence": 4, "reason": "flu"}
        etag = practice.desk.get(path).headers["ETag"]
        changed = practice.desk.post(f"{path}/reschedule", {"from_occurrence": 1, "start": day_after(3, "10:00")})
        assert changed.headers["ETag"] != etag
        assert code_of(practice.desk.post(f"{path}/cancel", body, If_Match=etag)) == (412, "stale")
        again = practice.desk.post(f"{path}/cancel", body, If_Match=changed.headers["ETag"])
        assert again.status_code == 200

    def test_who_waits_is_offered_what_frees(self, practice: Weekly) -> None:
        made, other = practice.made(), practice.clinic.patient()
        body = {"patient_id": other["id"], "appointment_type_id": practice.kind["id"]}
        entry = practice.desk.post("/waitlist", body | {"from": day_after(17), "to": day_after(18)}).get_json()
        assert practice.change(made, "cancel", 2).status_code == 200
        offer = practice.desk.get(f"/waitlist/{entry['id']}").get_json()["offer"]
        assert offer["start"] == day_after(17, "09:00")


class TestReplays:
    """A repeated key gives the first answer, and a dry run is another request than the real one."""

    def test_one_series_of_two_tries(self, practice: Weekly) -> None:
        first, second = (practice.desk.post("/series", practice.series(), Idempotency_Key="one") for _ in range(2))
        assert first.get_json() == second.get_json()
        assert second.headers["Idempotency-Replayed"] == "true"
        assert practice.rows() == (1, WEEKS, 2 * WEEKS)

    def test_a_dry_run_does_not_stand_for_the_real_one(self, practice: Weekly) -> None:
        assert practice.desk.post("/series?dry_run=true", practice.series(), Idempotency_Key="one").status_code == 201
        real = practice.desk.post("/series", practice.series(), Idempotency_Key="one")
        assert code_of(real) == (422, "idempotency_key_reused")
        assert practice.rows()[0] == 0


@pytest.fixture
def days(diary: Diary, fresh_day: int) -> int:
    """The first of five days with nothing booked; the diary is whole afterwards."""
    for _ in range(4):
        next(diary.days)
    return fresh_day


class TestRaces:
    """Sixteen people want series in one diary at the same moment."""

    @staticmethod
    def daily(diary: Diary, number: int, day: int, at: str = "09:00", **given: Any) -> dict[str, Any]:
        return diary.body(number, at, day=day) | {"frequency": "daily", "count": 4} | given

    @pytest.mark.parametrize("_round", range(3))
    def test_the_same_times_go_to_one_of_them(self, diary: Diary, days: int, _round: int) -> None:
        answers = diary.race(lambda caller, n: caller.post("/series", self.daily(diary, n, days)))
        assert tally(answers) == {"201": 1, "409 series_refused": RACERS - 1}

    @pytest.mark.parametrize("_round", range(3))
    def test_skipping_shares_the_days_out(self, diary: Diary, days: int, _round: int) -> None:
        """Half begin a day later, half of all take single days."""

        def act(caller: Caller, number: int) -> TestResponse:
            if number % 4 == 3:
                return caller.post("/appointments", diary.body(number, "09:00", day=days + number % 5))
            body = self.daily(diary, number, days + number % 2, on_conflict="skip")
            return caller.post("/series", body)

        answers = diary.race(act)
        assert {answer.status_code for answer in answers} <= {201, 409}
        booked: Counter[str] = Counter()
        for answer in answers:
            if answer.status_code == 201:
                made = answer.get_json()
                booked.update(starts(made) if "occurrences" in made else [made["start"]])
        assert set(booked.values()) == {1}
        assert len(booked) == 5

    def test_one_key_makes_one_series(self, diary: Diary, days: int) -> None:
        body = self.daily(diary, 0, days)
        answers = diary.race(lambda caller, _: caller.post("/series", body, Idempotency_Key=f"series-{days}"))
        assert tally(answers) == {"201": RACERS}
        assert len({answer.get_json()["id"] for answer in answers}) == 1

    def test_two_series_that_swap_their_times(self, diary: Diary, days: int) -> None:
        """Both are in each other's way: whatever comes about, nobody is booked twice, and none is torn apart."""
        made = [
            diary.clinic.admin.post("/series", self.daily(diary, n, days, at)).get_json()
            for n, at in enumerate(("09:00", "10:00"))
        ]
        there = [day_after(days, at) for at in ("10:00", "09:00")]

        def act(caller: Caller, number: int) -> TestResponse:
            path = f"/series/{made[number % 2]['id']}"
            if number < 12:
                return caller.post(f"{path}/reschedule", {"from_occurrence": 1, "start": there[number % 2]})
            return caller.post(f"{path}/cancel", {"from_occurrence": 3, "reason": "flu"})

        answers = diary.race(act)
        assert {answer.status_code for answer in answers} <= {200, 409}
        for one in made:
            now = diary.clinic.admin.get(f"/series/{one['id']}").get_json()["occurrences"]
            live = [visit["start"][11:16] for visit in now if visit["appointment"]["status"] == "booked"]
            assert len(set(live)) == 1
            assert len(live) == 2
