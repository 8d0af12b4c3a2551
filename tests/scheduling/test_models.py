"""What PostgreSQL itself refuses: each constraint once, and its edge that it allows."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase

from medical.platform.db import Scope, constraint_of, db, scope_organization, scoped
from medical.platform.ids import new_id
from medical.scheduling.models import (
    STORED,
    Allocation,
    Appointment,
    AppointmentEvent,
    AppointmentType,
    Availability,
    Hold,
    QueueDay,
)
from tests.clinic import Clinic
from tests.scheduling.diary import Diary, open_diary, utc

NINE = utc("2027-01-04T09:00")
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def diary(clinic: Clinic) -> Iterator[Diary]:
    """A diary to write rows into."""
    with open_diary(clinic) as opened:
        yield opened


@pytest.fixture
def row(diary: Diary) -> "Row":
    """Valid rows."""
    return Row(diary)


class Row:
    """Writes rows that are valid but for what is given."""

    def __init__(self, diary: Diary) -> None:
        self.clinician_id, self.patient_id, self.kind_id = diary.clinician(), diary.patient(), diary.kind().id

    def appointment_type(self, **given: Any) -> dict[str, Any]:
        """A kind of visit."""
        details = {"duration_minutes": 30, "grid_minutes": 30, "min_notice_minutes": 0, "horizon_days": 30}
        return self._write(AppointmentType, details | {"name": f"Visit {new_id()}", "version": 1} | given)

    def availability(self, **given: Any) -> dict[str, Any]:
        """Weekly hours."""
        details = {
            "clinician_id": self.clinician_id,
            "weekdays": [1],
            "start_time": time(9),
            "end_time": time(17),
            "time_zone": "UTC",
            "every_weeks": 1,
            "first_week_on": date(2027, 1, 4),
            "version": 1,
        }
        return self._write(Availability, details | given)

    def appointment(self, **given: Any) -> dict[str, Any]:
        """A booked appointment, without its claims."""
        details = {
            "patient_id": self.patient_id,
            "clinician_id": self.clinician_id,
            "appointment_type_id": self.kind_id,
            "status": "booked",
            "start_at": NINE,
            "end_at": NINE + HALF_AN_HOUR,
            "time_zone": "UTC",
            "local_start": NINE.replace(tzinfo=None),
            "version": 1,
        }
        return self._write(Appointment, details | given)

    def allocation(self, **given: Any) -> dict[str, Any]:
        """A claim on the clinician's time."""
        details = {
            "bookable_id": self.clinician_id,
            "kind": "clinician",
            "start_at": NINE,
            "end_at": NINE + HALF_AN_HOUR,
            "appointment_id": new_id(),
        }
        return self._write(Allocation, details | given)

    def hold(self, **given: Any) -> dict[str, Any]:
        """A hold, without its claim."""
        details = {
            "clinician_id": self.clinician_id,
            "appointment_type_id": self.kind_id,
            "start_at": NINE,
            "end_at": NINE + HALF_AN_HOUR,
            "held_by": new_id(),
            "expires_at": NINE,
        }
        return self._write(Hold, details | given)

    def queue_day(self, **given: Any) -> dict[str, Any]:
        """A counter."""
        return self._write(QueueDay, {"location_id": None, "day": date(2027, 1, 4), "last_number": 1} | given)

    def _write(self, model: type[DeclarativeBase], values: dict[str, Any]) -> dict[str, Any]:
        values = {"id": new_id(), "organization_id": scope_organization()} | values
        with db.session.begin_nested():
            db.session.execute(insert(model).values(values))
        return values


def refused(write: Any, **given: Any) -> str | None:
    """The name of the constraint that refuses the row."""
    with pytest.raises(IntegrityError) as caught:
        write(**given)
    return constraint_of(caught.value)


class TestAllocation:
    """No two claims of one person overlap."""

    @pytest.mark.parametrize(("start", "end"), [(0, 30), (15, 45), (-15, 15), (10, 20), (-30, 60), (29, 60), (-60, 1)])
    def test_overlapping_claims_of_one_person_are_refused(self, row: Row, start: int, end: int) -> None:
        row.allocation()
        span = {"start_at": NINE + timedelta(minutes=start), "end_at": NINE + timedelta(minutes=end)}
        assert refused(row.allocation, **span) == "ex_allocation_bookable_id_during"

    def test_touching_claims_are_allowed(self, row: Row) -> None:
        row.allocation()
        row.allocation(start_at=NINE + HALF_AN_HOUR, end_at=NINE + 2 * HALF_AN_HOUR)
        row.allocation(start_at=NINE - HALF_AN_HOUR, end_at=NINE)

    def test_claims_of_other_people_are_allowed(self, row: Row) -> None:
        row.allocation()
        row.allocation(bookable_id=row.patient_id, kind="patient")

    def test_whether_claimed_as_clinician_or_as_patient_does_not_matter(self, row: Row) -> None:
        row.allocation()
        assert refused(row.allocation, kind="patient") == "ex_allocation_bookable_id_during"

    def test_the_range_is_made_from_start_and_end(self, row: Row) -> None:
        row.allocation()
        assert db.session.scalar(select(Allocation.during)) == Range(NINE, NINE + HALF_AN_HOUR, bounds="[)")
        with pytest.raises(DBAPIError, match="during"), db.session.begin_nested():
            db.session.execute(text("INSERT INTO allocation (during) VALUES ('empty')"))

    def test_ends_after_it_starts(self, row: Row) -> None:
        assert refused(row.allocation, end_at=NINE) == "ck_allocation_times"
        row.allocation(end_at=NINE + timedelta(microseconds=1))

    def test_is_of_somebody_or_something_that_can_be_booked(self, row: Row) -> None:
        assert refused(row.allocation, kind="moon") == "ck_allocation_kind"
        row.allocation(kind="patient")

    def test_belongs_to_an_appointment_when_the_transaction_ends(self, row: Row) -> None:
        appointment = row.appointment()
        row.allocation(appointment_id=appointment["id"])
        db.session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        assert refused(row.allocation, bookable_id=new_id()) == "fk_allocation_appointment_id_appointment"

    def test_is_never_changed(self, row: Row) -> None:
        row.allocation()
        with pytest.raises(DBAPIError, match="permission denied"), db.session.begin_nested():
            db.session.execute(update(Allocation).values(start_at=NINE))

    def test_is_of_an_appointment_or_of_a_hold(self, row: Row) -> None:
        hold = row.hold()
        of_hold = {"appointment_id": None, "hold_id": hold["id"], "expires_at": hold["expires_at"]}
        assert refused(row.allocation, appointment_id=None) == "ck_allocation_claimant"
        assert refused(row.allocation, **of_hold | {"appointment_id": new_id()}) == "ck_allocation_claimant"
        assert refused(row.allocation, **of_hold | {"expires_at": None}) == "ck_allocation_expires_at"
        assert refused(row.allocation, expires_at=NINE) == "ck_allocation_expires_at"
        assert refused(row.allocation, **of_hold | {"hold_id": new_id()}) == "fk_allocation_hold_id_hold"
        row.allocation(**of_hold)

    def test_goes_with_its_hold(self, row: Row) -> None:
        hold = row.hold()
        row.allocation(appointment_id=None, hold_id=hold["id"], expires_at=hold["expires_at"])
        db.session.execute(delete(Hold))
        assert db.session.scalars(select(Allocation)).all() == []


class TestHold:
    """Holds."""

    def test_ends_after_it_starts(self, row: Row) -> None:
        assert refused(row.hold, end_at=NINE) == "ck_hold_times"

    @pytest.mark.parametrize(
        ("column", "target"), [("clinician_id", "clinician"), ("appointment_type_id", "appointment_type")]
    )
    def test_names_what_is_in_the_organisation(self, row: Row, column: str, target: str) -> None:
        assert refused(row.hold, **{column: new_id()}) == f"fk_hold_{column}_{target}"


class TestQueueDay:
    """The counters of queue numbers."""

    def test_a_place_has_one_a_day_and_so_has_no_place(self, row: Row, diary: Diary) -> None:
        for place in (None, diary.location()):
            row.queue_day(location_id=place)
            row.queue_day(location_id=place, day=date(2027, 1, 5))
            assert refused(row.queue_day, location_id=place) == "uq_queue_day_organization_id_location_id_day"

    def test_counts_from_one(self, row: Row) -> None:
        assert refused(row.queue_day, last_number=0) == "ck_queue_day_last_number"

    def test_is_of_a_place_of_the_organisation(self, row: Row) -> None:
        assert refused(row.queue_day, location_id=new_id()) == "fk_queue_day_location_id_location"


class TestAppointmentType:
    """Kinds of visits."""

    @pytest.mark.parametrize(
        ("column", "allowed", "wrong"),
        [
            ("duration_minutes", [1, 1440], [0, 1441]),
            ("grid_minutes", [1, 1440], [0, 1441]),
            ("min_notice_minutes", [0], [-1]),
            ("horizon_days", [1, 550], [0, 551]),
            ("cancellation_cutoff_minutes", [0], [-1]),
            ("max_per_day", [1, None], [0]),
            ("max_per_patient", [1, None], [0]),
        ],
    )
    def test_numbers_lie_between_their_limits(
        self, row: Row, column: str, allowed: list[int], wrong: list[int]
    ) -> None:
        for value in allowed:
            row.appointment_type(**{column: value})
        for value in wrong:
            assert refused(row.appointment_type, **{column: value}) == f"ck_appointment_type_{column}"

    def test_a_name_stands_once_in_an_organisation(self, row: Row) -> None:
        row.appointment_type(name="Check-up")
        row.appointment_type(name="Check-up 2")
        assert refused(row.appointment_type, name="Check-up") == "uq_appointment_type_organization_id_name"


class TestAvailability:
    """Weekly hours."""

    @pytest.mark.parametrize(
        ("name", "allowed", "wrong"),
        [
            ("weekdays", {"weekdays": [1, 7]}, {"weekdays": []}),
            ("weekdays", {"weekdays": [7]}, {"weekdays": [8]}),
            ("weekdays", {"weekdays": [1]}, {"weekdays": [0, 1]}),
            ("every_weeks", {"every_weeks": 1}, {"every_weeks": 0}),
            ("every_weeks", {"every_weeks": 52}, {"every_weeks": 53}),
            (
                "valid",
                {"valid_from": date(2027, 1, 4), "valid_until": date(2027, 1, 4)},
                {"valid_from": date(2027, 1, 4), "valid_until": date(2027, 1, 3)},
            ),
        ],
    )
    def test_checks(self, row: Row, name: str, allowed: dict[str, Any], wrong: dict[str, Any]) -> None:
        row.availability(**allowed)
        assert refused(row.availability, **wrong) == f"ck_availability_{name}"

    def test_a_zone_is_one_that_postgresql_knows(self, row: Row) -> None:
        row.availability(time_zone="Asia/Kathmandu")
        with pytest.raises(DBAPIError, match="not recognized"):
            row.availability(time_zone="Europe/Atlantis")

    @pytest.mark.parametrize(("column", "target"), [("clinician_id", "clinician"), ("location_id", "location")])
    def test_names_what_is_in_the_organisation(self, row: Row, column: str, target: str) -> None:
        assert refused(row.availability, **{column: new_id()}) == f"fk_availability_{column}_{target}"


class TestAppointment:
    """Appointments."""

    def test_ends_after_it_starts(self, row: Row) -> None:
        row.appointment(end_at=NINE + timedelta(microseconds=1))
        assert refused(row.appointment, end_at=NINE) == "ck_appointment_times"

    @pytest.mark.parametrize("status", STORED)
    def test_has_a_status_of_the_table(self, row: Row, status: str) -> None:
        row.appointment(status=status)
        assert refused(row.appointment, status=status.upper()) == "ck_appointment_status"

    def test_is_not_held(self, row: Row) -> None:
        assert refused(row.appointment, status="held") == "ck_appointment_status"

    @pytest.mark.parametrize(
        ("column", "target"),
        [
            ("patient_id", "patient"),
            ("clinician_id", "clinician"),
            ("appointment_type_id", "appointment_type"),
            ("location_id", "location"),
        ],
    )
    def test_names_what_is_in_the_organisation(self, row: Row, column: str, target: str) -> None:
        assert refused(row.appointment, **{column: new_id()}) == f"fk_appointment_{column}_{target}"

    def test_cannot_name_somebody_of_another_organisation(self, row: Row, other_clinic: Clinic) -> None:
        own = scope_organization()
        assert own is not None
        patient_id = UUID(other_clinic.patient()["id"])
        with scoped(Scope(other_clinic.organization_id)):
            assert db.session.scalar(text("SELECT count(*) FROM patient")) == 1
        with scoped(Scope(own)):
            assert refused(row.appointment, patient_id=patient_id) == "fk_appointment_patient_id_patient"

    def test_is_never_deleted(self, row: Row) -> None:
        row.appointment()
        with pytest.raises(DBAPIError, match="permission denied"), db.session.begin_nested():
            db.session.execute(delete(Appointment))


class TestAppointmentEvent:
    """A trigger writes down every version of an appointment, whoever writes it."""

    def test_raw_sql_leaves_an_event_too(self, row: Row) -> None:
        appointment = row.appointment()
        text_of_change = (
            "UPDATE appointment SET status = 'cancelled', status_reason = 'flu', version = 2 WHERE id = :id"
        )
        db.session.execute(text(text_of_change), {"id": appointment["id"]})
        events = db.session.scalars(select(AppointmentEvent).order_by(AppointmentEvent.version)).all()
        assert [(event.version, event.status, event.reason) for event in events] == [
            (1, "booked", None),
            (2, "cancelled", "flu"),
        ]
        assert events[0].occurred_at < events[1].occurred_at <= datetime.now(UTC)

    def test_a_change_that_would_leave_none_is_refused(self, row: Row) -> None:
        row.appointment()
        with pytest.raises(IntegrityError) as caught, db.session.begin_nested():
            db.session.execute(text("UPDATE appointment SET status = 'cancelled'"))
        assert constraint_of(caught.value) == "pk_appointment_event"

    @pytest.mark.parametrize("change", ["UPDATE appointment_event SET reason = ''", "DELETE FROM appointment_event"])
    def test_is_never_changed_or_deleted(self, row: Row, change: str) -> None:
        row.appointment()
        with pytest.raises(DBAPIError, match="permission denied"), db.session.begin_nested():
            db.session.execute(text(change))


class TestOtherOrganisations:
    """Row-level security holds for every table of diaries."""

    @pytest.mark.parametrize(
        "table", ["appointment_type", "availability", "appointment", "appointment_event", "allocation"]
    )
    def test_rows_of_one_are_not_seen_by_another(self, row: Row, other_clinic: Clinic, table: str) -> None:
        row.availability()
        row.allocation(appointment_id=row.appointment()["id"])
        count = text(f"SELECT count(*) FROM {table}")  # noqa: S608 - names from the list above
        assert db.session.scalar(count) == 1
        with scoped(Scope(other_clinic.organization_id)):
            assert db.session.scalar(count) == 0

    def test_a_row_cannot_be_written_into_another(self, row: Row, other_clinic: Clinic) -> None:
        with pytest.raises(DBAPIError, match="row-level security"):
            row.appointment_type(organization_id=other_clinic.organization_id)
