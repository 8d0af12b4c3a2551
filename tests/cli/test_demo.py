"""The demo clinic: complete, without contradictions, made once and in demo mode only."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from sqlalchemy import func, select, text

from medical.app import create_app
from medical.audit.models import AuditEvent
from medical.cli.demo import clinic, diary, ensure_absent, records, seed_if_empty
from medical.config import Mode
from medical.identity import keys, service
from medical.identity.models import Organization, RoleGrant, User
from medical.identity.permissions import Role
from medical.people.models import Clinician, Location, Patient, PatientIdentifier
from medical.platform import clock
from medical.platform import db as database
from medical.platform.db import Base, Scope, db, scoped
from medical.platform.ids import new_id
from medical.platform.refusal import Refused
from medical.platform.zones import known_zones
from medical.records.models import Resource
from medical.records.validation import validate
from medical.scheduling import policy, slots
from medical.scheduling.models import Allocation, Appointment, AppointmentEvent, AppointmentType, Availability, Status
from tests.clinic import Caller, Statements
from tests.conftest import SECRET, MakeDatabase

LIMIT_STATEMENTS = 55

MakeApp = Callable[[], Flask]


@pytest.fixture(scope="module")
def make_app(make_database: MakeDatabase) -> Iterator[MakeApp]:
    """Makes an application on an empty, migrated database of its own."""
    made = []

    def make() -> Flask:
        url = make_database.migrated()
        flask_app = create_app({"database_url": url, "secret_key": SECRET, "mode": Mode.DEMO})
        made.append(flask_app)
        return flask_app

    yield make
    for flask_app in made:
        with flask_app.app_context():
            db.engine.dispose()


@pytest.fixture(scope="module")
def demo(make_app: MakeApp) -> Flask:
    """An application whose database holds the demo clinic."""
    flask_app = make_app()
    with flask_app.app_context():
        keys.ensure_ring(flask_app.extensions["settings"])
        seed_if_empty()
    return flask_app


@pytest.fixture
def recordless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clinic is made without its records, which take most of the time."""
    monkeypatch.setattr(records, "shipped", list)


@pytest.fixture
def inside(demo: Flask) -> Iterator[None]:
    """The test sees the demo clinic's rows."""
    with within(demo):
        yield


class within:  # noqa: N801 - reads as the statement it is
    """Work in an application's demo clinic."""

    def __init__(self, flask_app: Flask) -> None:
        self.context = flask_app.app_context()

    def __enter__(self) -> None:
        self.context.__enter__()
        scope = service.registration_scope()
        assert scope
        self.scope = scoped(scope)
        self.scope.__enter__()

    def __exit__(self, *error: Any) -> None:
        db.session.rollback()
        self.scope.__exit__(*error)
        self.context.__exit__(*error)


def count(model: type[Base]) -> int:
    return db.session.scalars(select(func.count()).select_from(model)).one()


def rows_of_all_tables() -> dict[str, int]:
    """How many rows of the present organisation each table shows."""
    return {
        name: db.session.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608 - our own names
        for name in Base.metadata.tables.keys() - {"audit_search", "audit_archive"}  # which nobody of the program reads
    }


@pytest.mark.usefixtures("inside")
class TestWhatIsThere:
    def test_one_organization_that_takes_registrations(self) -> None:
        assert db.session.execute(select(Organization.name, Organization.self_registration)).all() == [
            ("Harbour Clinic", True)
        ]

    def test_two_sites_with_different_clocks(self) -> None:
        zones = db.session.scalars(select(Location.time_zone)).all()
        assert len(zones) == len(set(zones)) == 2
        assert set(zones) <= known_zones()
        now = clock.now()
        assert len({now.astimezone(ZoneInfo(zone)).utcoffset() for zone in zones}) == 2

    def test_six_clinicians_of_four_specialties_with_hours(self) -> None:
        specialties = db.session.scalars(select(Clinician.specialty)).all()
        assert (len(specialties), len(set(specialties))) == (6, 4)
        hours = Counter(db.session.scalars(select(Availability.clinician_id)))
        assert len(hours) == 6
        assert min(hours.values()) >= 2
        assert set(db.session.scalars(select(Availability.every_weeks))) == {1, 2}
        assert count(AppointmentType) == 2

    def test_forty_patients(self) -> None:
        patients = db.session.scalars(select(Patient)).all()
        assert len(patients) == len({(one.given_name, one.family_name, one.birth_date) for one in patients}) == 40
        assert not any(character.isdigit() for one in patients for character in one.given_name + one.family_name)
        assert len(set(db.session.scalars(select(PatientIdentifier.patient_id)))) == 40

    def test_records_of_those_who_have_some_in_the_source(self) -> None:
        kept = db.session.execute(
            select(Resource.type, Resource.patient_id, Resource.open).where(Resource.type != "Patient")
        ).all()
        assert len({one.patient_id for one in kept if one.type == "Encounter"}) == 25
        assert {one.type for one in kept if one.open} == {"Organization", "Practitioner"}
        assert not [one for one in kept if one.patient_id is None and not one.open]

    def test_its_records_are_valid(self) -> None:
        """Each start takes them as they are."""
        assert not [problem for one in records.shipped() for problem in validate(one)]

    def test_the_dead_have_no_appointments(self) -> None:
        died = {(one["given_name"], one["family_name"]) for one in clinic.known_patients() if "deceased" in one}
        assert len(died) == 3
        query = select(Patient.given_name, Patient.family_name).join(Appointment, Appointment.patient_id == Patient.id)
        treated = {tuple(row) for row in db.session.execute(query)}
        assert len(treated) == 37
        assert not treated & died

    def test_a_month_of_appointments(self) -> None:
        now = clock.now()
        past = db.session.scalars(select(Appointment).where(Appointment.start_at <= now)).all()
        ahead = db.session.scalars(select(Appointment).where(Appointment.start_at > now)).all()
        assert len(past) > 60
        assert len(ahead) > 60
        assert {one.status for one in past} == {Status.FULFILLED, Status.NO_SHOW, Status.CANCELLED}
        assert {one.status for one in ahead} == {Status.BOOKED, Status.CANCELLED}
        assert all(one.status_reason for one in [*past, *ahead] if one.status == Status.CANCELLED)
        begin, end = min(one.start_at for one in past), max(one.start_at for one in ahead)
        assert timedelta(days=24) < end - begin < timedelta(days=31)

    def test_histories_follow_the_moves_that_are_allowed(self) -> None:
        query = select(AppointmentEvent.appointment_id, AppointmentEvent.status)
        events = db.session.execute(query.order_by(AppointmentEvent.appointment_id, AppointmentEvent.version)).all()
        for (appointment, status), (next_appointment, next_status) in pairwise(events):
            if appointment == next_appointment:
                assert any(status in sources and next_status == to for sources, to in policy.MOVES.values())
            else:
                assert next_status == Status.BOOKED

    def test_one_event_in_the_trail(self) -> None:
        event = db.session.scalars(select(AuditEvent).where(AuditEvent.action == "organization.seeded")).one()
        assert event.entity_id == event.organization_id

    def test_the_patient_of_the_account_has_something_ahead(self) -> None:
        query = (
            select(func.count())
            .select_from(Appointment)
            .join(Patient, Patient.id == Appointment.patient_id)
            .join(User, User.id == Patient.user_id)
            .where(User.email == "patient@demo.example", Appointment.status == Status.BOOKED)
        )
        assert db.session.scalars(query).one() >= 1


def ensure_consistent() -> None:
    """Fail unless each appointment lies in the hours, and claims are exactly those of the ones that hold time."""
    appointments = db.session.scalars(select(Appointment)).all()
    for one in appointments:
        place = slots.place(
            appointment_type_id=one.appointment_type_id,
            clinician_id=one.clinician_id,
            location_id=None,
            start=one.start_at,
            now=one.start_at - timedelta(days=2),
        )
        assert place is not None
        found = (place.location_id, place.time_zone, place.local_start, place.ends)
        assert found == (one.location_id, one.time_zone, one.local_start, one.end_at)
        assert one.created_at < one.start_at
    claims = {
        (who, one.start_at, one.end_at, one.id)
        for one in appointments
        if one.status not in policy.RELEASING
        for who in (one.clinician_id, one.patient_id)
    }
    query = select(Allocation.bookable_id, Allocation.start_at, Allocation.end_at, Allocation.appointment_id)
    assert {tuple(row) for row in db.session.execute(query)} == claims
    for person in {who for who, *_ in claims}:
        times = sorted((start, end) for who, start, end, _ in claims if who == person)
        assert all(end <= start for (_, end), (start, _) in pairwise(times))


@pytest.mark.usefixtures("recordless")
@pytest.mark.parametrize(
    "today",
    [
        None,
        "2026-03-05T15:00:00+00:00",  # clocks go forward in the month
        "2026-10-28T03:30:00+00:00",  # and back; still the day before in both zones
        "2024-02-29T23:59:59+00:00",
        "2027-01-03T17:10:00+00:00",  # a Sunday
    ],
)
def test_no_contradictions_on_any_day(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, today: str | None) -> None:
    if today:
        monkeypatch.setattr(clock, "now", lambda: datetime.fromisoformat(today))
    flask_app = make_app()
    with flask_app.app_context():
        seed_if_empty()
    with within(flask_app):
        ensure_consistent()
        assert count(Appointment) == 37 * diary.VISITS_EACH * 2


class TestAccounts:
    def test_one_for_each_role_signs_in(self, demo: Flask) -> None:
        with demo.app_context():
            accounts = seed_if_empty()
        assert [role for role, _, _ in accounts] == [role.value for role in Role]
        for role, email, password in accounts:
            answer = Caller(demo).post("/auth/login", {"email": email, "password": password})
            assert answer.status_code == 200, answer.text
            me = Caller(demo, answer.get_json()["access_token"]).get("/me").get_json()
            assert me["roles"] == [role]
            assert (me["patient_id"] is not None) == (role == Role.PATIENT)
            assert (me["clinician_id"] is not None) == (role == Role.CLINICIAN)

    def test_plain_values_for_a_process_without_the_models(self, demo: Flask) -> None:
        with demo.app_context():
            accounts = seed_if_empty()
        assert {type(value) for account in accounts for value in account} == {str}

    @pytest.mark.usefixtures("inside")
    def test_the_other_clinicians_have_no_password(self) -> None:
        query = select(User.email, RoleGrant.role).join(RoleGrant).where(User.password_hash.is_(None))
        without = db.session.execute(query).all()
        assert len(without) == 5
        assert {role for _, role in without} == {Role.CLINICIAN}


@pytest.mark.usefixtures("recordless")
class TestWhen:
    def test_a_second_start_changes_nothing(self, demo: Flask) -> None:
        with within(demo):
            before = rows_of_all_tables()
        with demo.app_context():
            again = seed_if_empty()
        with within(demo):
            assert rows_of_all_tables() == before
        assert len(again) == 7

    def test_all_of_it_or_nothing(self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
        flask_app = make_app()
        with flask_app.app_context():
            with monkeypatch.context() as broken:
                broken.setattr(diary, "_move_on", lambda visits: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    seed_if_empty()
            assert service.registration_scope() is None
            assert len(seed_if_empty()) == 7

    def test_two_starts_at_once_make_one(self, make_app: MakeApp) -> None:
        flask_app = make_app()

        def start(_: int) -> int:
            with flask_app.app_context():
                return len(seed_if_empty())

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(start, range(2))) == [7, 7]
        with within(flask_app):
            assert count(Patient) == 40

    def test_somebody_elses_clinic_stays_as_it_is(self, make_app: MakeApp) -> None:
        flask_app = make_app()
        with flask_app.app_context(), scoped(Scope(new_id())):
            service.create_admin(
                organization_name="Their own",
                email="owner@example.org",
                password="brackish teapots wander",
                given_name="Ada",
                family_name="Owner",
            )
            db.session.commit()
        with flask_app.app_context():
            assert seed_if_empty() == []
        with within(flask_app):
            assert (count(User), count(Patient)) == (1, 0)

    def test_a_closed_account_is_not_told(self, make_app: MakeApp) -> None:
        flask_app = make_app()
        with flask_app.app_context():
            seed_if_empty()
        with within(flask_app):
            db.session.scalars(select(User).where(User.email == "nurse@demo.example")).one().active = False
            db.session.commit()
        with flask_app.app_context():
            assert "nurse" not in [role for role, _, _ in seed_if_empty()]

    @pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.DEMO])
    def test_refused_outside_demo_mode_before_anything_is_asked(self, mode: Mode) -> None:
        nowhere = "postgresql://nobody@127.0.0.1:1/none"
        flask_app = create_app({"database_url": nowhere, "secret_key": SECRET, "mode": mode})
        with flask_app.app_context(), pytest.raises(Refused, match="demo mode only"):
            seed_if_empty()

    def test_production_refuses_a_database_that_holds_it(self, make_app: MakeApp) -> None:
        flask_app = make_app()
        with flask_app.app_context():
            ensure_absent()
            seed_if_empty()
            with pytest.raises(Refused, match="everybody knows"):
                ensure_absent()


def test_takes_its_time_on_a_slow_machine(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program works on records for longer than a transaction may be idle."""
    kept = records.shipped()[:20]

    def slowly() -> list[dict[str, Any]]:
        time.sleep(1.5)
        return kept

    monkeypatch.setitem(database.SESSION_SETTINGS, "idle_in_transaction_session_timeout", "1s")
    monkeypatch.setattr(records, "shipped", slowly)
    flask_app = make_app()
    with flask_app.app_context():
        assert seed_if_empty()


def test_few_statements(make_app: MakeApp) -> None:
    flask_app = make_app()
    with flask_app.app_context():
        counter = Statements(db.engine)
        seed_if_empty()
        counter.stop()
    assert counter.count <= LIMIT_STATEMENTS
