"""Wall-clock times as instants: PostgreSQL and Python agree, and only zones both know are taken."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import text

from medical.platform import zones
from medical.platform.db import db
from tests.clinic import Clinic

PERIOD = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
AROUND = [timedelta(minutes=minutes) for minutes in (-1441, -181, -120, -90, -61, -60, -59, -31, -30, -29, -15, -1)]
AROUND += [timedelta()] + [-offset for offset in AROUND]
WEEK = timedelta(days=7)

Samples = list[tuple[str, datetime]]


def transitions(zone: str) -> Iterator[datetime]:
    """The instants at which the zone's clocks change within the period, as Python knows them."""
    info = ZoneInfo(zone)
    at = PERIOD[0]
    while at < PERIOD[1]:
        if at.astimezone(info).utcoffset() != (at + WEEK).astimezone(info).utcoffset():
            before, after = at, at + WEEK
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) / 2
                same = middle.astimezone(info).utcoffset() == at.astimezone(info).utcoffset()
                before, after = (middle, after) if same else (before, middle)
            yield after.replace(microsecond=0)
        at += WEEK


@pytest.fixture(scope="module")
def changes() -> dict[str, list[datetime]]:
    """Every accepted zone, and when its clocks change."""
    return {zone: list(transitions(zone)) for zone in sorted(zones.known_zones())}


@pytest.fixture(scope="module")
def agreed(app: Flask, changes: dict[str, list[datetime]]) -> set[str]:
    """The zones of which PostgreSQL and Python have the same data; the two are seldom of one release."""
    moments = [
        (zone, at + side * timedelta(hours=2))
        for zone, ats in changes.items()
        for at in [*ats, *(PERIOD[0] + timedelta(days=45) * n for n in range(49))]
        for side in (-1, 0, 1)
    ]
    shown = _ask(app, "SELECT at AT TIME ZONE zone", "timestamptz", moments)
    different = {
        zone
        for (zone, at), local in zip(moments, shown, strict=True)
        if local != at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    }
    return changes.keys() - different


def _ask(app: Flask, question: str, kind: str, samples: Samples) -> list[Any]:
    """The answers to a question about each sample, by one statement."""
    statement = f"{question} FROM unnest(CAST(:zones AS text[]), CAST(:times AS {kind}[])) AS t (zone, at)"
    with app.app_context():
        values = {"zones": [zone for zone, _ in samples], "times": [at for _, at in samples]}
        found = list(db.session.scalars(text(statement), values))
        db.session.rollback()
        return found


def resolve(app: Flask, samples: Samples) -> list[datetime]:
    """The instants of wall-clock times, by PostgreSQL."""
    return _ask(app, "SELECT local_to_instant(at, zone)", "timestamp", samples)


class TestResolver:
    """What a wall-clock time means."""

    def test_both_resolvers_agree_around_every_change_of_every_zone(
        self, app: Flask, changes: dict[str, list[datetime]], agreed: set[str]
    ) -> None:
        samples = []
        for zone in agreed:
            info = ZoneInfo(zone)
            for at in changes[zone]:
                before = (at - timedelta(seconds=1)).astimezone(info).replace(tzinfo=None) + timedelta(seconds=1)
                after = at.astimezone(info).replace(tzinfo=None)
                samples += [(zone, local + offset) for local in (before, after) for offset in AROUND]
            samples += [(zone, datetime(2026, month, 15, 9)) for month in range(1, 13)]  # noqa: DTZ001 - wall clocks
        assert len(agreed) > 0.9 * len(changes), f"PostgreSQL and Python differ on {sorted(changes.keys() - agreed)}"
        assert len(samples) > 50_000
        by_database = resolve(app, samples)
        wrong = [
            (zone, local, found)
            for (zone, local), found in zip(samples, by_database, strict=True)
            if found != zones.local_to_instant(local, zone)
        ]
        assert wrong == []

    @pytest.mark.parametrize(
        ("zone", "local", "instant"),
        [
            ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30"),
            ("America/New_York", "2026-11-01T01:59", "2026-11-01T05:59"),
            ("Australia/Lord_Howe", "2027-04-04T01:45", "2027-04-03T14:45"),
            ("Europe/Dublin", "2026-10-25T01:00", "2026-10-25T00:00"),
        ],
    )
    def test_a_repeated_hour_means_its_first_occurrence(self, app: Flask, zone: str, local: str, instant: str) -> None:
        self.expect(app, zone, local, instant)

    @pytest.mark.parametrize(
        ("zone", "local", "instant"),
        [
            ("Europe/Berlin", "2027-03-28T02:30", "2027-03-28T01:30"),
            ("America/New_York", "2026-03-08T02:00", "2026-03-08T07:00"),
            ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:45"),
            ("America/Sao_Paulo", "2018-11-04T00:00", "2018-11-04T03:00"),
            ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T19:00"),
        ],
    )
    def test_a_skipped_time_moves_forward_by_the_gap(self, app: Flask, zone: str, local: str, instant: str) -> None:
        self.expect(app, zone, local, instant)

    def expect(self, app: Flask, zone: str, local: str, instant: str) -> None:
        """Both resolvers say so."""
        wall, right = datetime.fromisoformat(local), datetime.fromisoformat(instant).replace(tzinfo=UTC)
        assert resolve(app, [(zone, wall)]) == [right]
        assert zones.local_to_instant(wall, zone) == right

    def test_no_time_means_no_instant(self, app: Flask) -> None:
        with app.app_context():
            assert db.session.scalar(text("SELECT local_to_instant(NULL, 'Europe/Berlin')")) is None


class TestAcceptedZones:
    """Which names may be given."""

    def test_the_database_server_knows_each_of_them(self, app: Flask) -> None:
        with app.app_context():
            known = set(db.session.scalars(text("SELECT name FROM pg_timezone_names")))
        assert zones.known_zones() - known == set()
        assert len(zones.known_zones()) > 400

    @pytest.mark.parametrize(
        "name",
        ["CET", "EET", "MET", "WET", "EST5EDT", "EST", "GMT", "Berlin", "europe/berlin", "posix/UTC", "UTC+3", ""],
    )
    def test_a_name_that_may_mean_a_fixed_offset_is_refused(self, clinic: Clinic, name: str) -> None:
        refused = clinic.admin.post("/locations", {"name": "Harbour", "time_zone": name})
        assert refused.status_code == 422
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == ["/time_zone"]

    @pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"])
    def test_a_place_or_utc_is_taken(self, clinic: Clinic, name: str) -> None:
        assert clinic.location(time_zone=name)["time_zone"] == name


@pytest.fixture
def atlantis(tmp_path: Path) -> Iterator[str]:
    """A zone that Python has data of and PostgreSQL has not."""
    berlin = next(Path(folder, "Europe/Berlin") for folder in zoneinfo.TZPATH if Path(folder, "Europe/Berlin").exists())
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe/Atlantis").write_bytes(berlin.read_bytes())
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path), *before])
    zones.known_zones.cache_clear()
    yield "Europe/Atlantis"
    zoneinfo.reset_tzpath(before)
    zones.known_zones.cache_clear()


class TestZoneOfPythonOnly:
    """A zone that is newer than the database server's table is refused, wherever it is given."""

    def test_for_a_location(self, clinic: Clinic, atlantis: str) -> None:
        self.expect_refused(clinic.admin.post("/locations", {"name": "Harbour", "time_zone": atlantis}))

    def test_for_a_clinician(self, clinic: Clinic, atlantis: str) -> None:
        body = {"user_id": clinic.user().id, "specialty": "Cardiology", "time_zone": atlantis}
        self.expect_refused(clinic.admin.post("/clinicians", body))

    def test_for_hours(self, clinic: Clinic, atlantis: str) -> None:
        clinician = clinic.clinician()
        hours = {"clinician_id": clinician.id, "weekdays": [1], "start_time": "09:00", "end_time": "12:00"}
        self.expect_refused(clinic.admin.post("/availabilities", hours | {"time_zone": atlantis}))

    def test_for_changed_hours(self, clinic: Clinic, atlantis: str) -> None:
        hours = clinic.hours(clinic.clinician())
        self.expect_refused(clinic.admin.patch(f"/availabilities/{hours['id']}", {"time_zone": atlantis}))
        assert clinic.admin.get(f"/availabilities/{hours['id']}").get_json() == hours

    def expect_refused(self, answer: Any) -> None:
        """The answer says what is wrong, where."""
        assert answer.status_code == 422, answer.text
        assert answer.get_json()["errors"] == [
            {"pointer": "/time_zone", "message": "is not known to the database server"}
        ]
