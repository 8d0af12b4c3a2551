"""Whose rows: what PostgreSQL itself keeps apart, whatever the program forgets."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from psycopg import sql
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoConnection

from medical.app import create_app
from medical.config import Mode
from medical.identity.models import User
from medical.identity.permissions import Role
from medical.people.models import Location
from medical.platform.db import APP_ROLE, Base, Scope, db, enter, scoped
from medical.platform.errors import NotFound
from medical.records import bulk, importing
from tests.clinic import PASSWORD, Caller, Clinic, Form, Signer, day_after, second_factor
from tests.conftest import SECRET, psycopg_url
from tests.system.test_access import SMART_APP, SMART_QUESTION, proposed

OF_THE_INSTALLATION = {
    "signing_key",
    "alembic_version",
    "sign_in_throttle",
    "audit_link",
    "audit_seal",
    "audit_archive",
    "upkeep",
}
"""Tables that belong to no organisation."""
APPENDED_TO = {"audit_event", "appointment_event"}
"""Histories: rows are added and read."""
WITH_OWNERS_RIGHTS = {
    "care",
    "cared_patients",
    "merged_into",
    "move_patient_rows",
    "own_patients",
    "patient_cards",
    "proxied_patients",
    "resource_id_taken",
    "search_patient_cards",
    "seen_patients",
    "taking_part",
}
"""What the policies of sight are made of, the cards of patients whom somebody does not see, taken ids, and merging."""
OF_THE_TRAIL = {"audit_backlog", "audit_gaps", "prepare_audit_months"}
"""Which say of everybody's trail how much waits and where it is not whole, and make its coming months."""
WRITTEN_ONLY = {"audit_search"}
"""What the program's role adds and never sees again; tests/audit/test_trail.py shows so."""

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def owner(database_url: str, app: Flask) -> Iterator[Connection]:
    """The database as its owner sees it."""
    with psycopg.connect(psycopg_url(database_url), autocommit=True) as connection:
        yield connection


@contextmanager
def as_program(database_url: str, organization_id: UUID | None = None) -> Iterator[Connection]:
    """A fresh connection as the program's role, in a transaction of this organisation; rolled back at the end."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(APP_ROLE)))
        connection.commit()
        if organization_id:
            connection.execute("SELECT set_config('app.organization_id', %s, true)", [str(organization_id)])
        yield connection
        connection.rollback()


def ask_and_allow(clinic: Clinic, app_id: str, caller: Caller, patient_id: str) -> None:
    """Let an app act for somebody, up to its code."""
    clinic.set_password(caller, PASSWORD)
    asked = urlencode(SMART_QUESTION | {"client_id": app_id})
    form = Form({"request": asked, "email": clinic.email_of(caller), "password": PASSWORD})
    page = Caller(clinic.app).post("/oauth/authorize", form).text
    ticket = page.partition('name="ticket" value="')[2].partition('"')[0]
    decision = Form({"ticket": ticket, "decision": "allow", "patient": patient_id})
    assert "code=" in Caller(clinic.app).post("/oauth/authorize/decision", decision).headers["Location"]


def furnished(clinic: Clinic) -> Clinic:
    """A clinic with rows in every table."""
    doctor, kind, patient = clinic.clinician(time_zone="UTC"), clinic.appointment_type(), clinic.patient()
    other = clinic.patient(identifiers=[{"system": "urn:x", "value": "1"}])
    site = clinic.location()
    clinic.hours(doctor)
    for path, body in {
        "/rooms": {"location_id": site["id"], "name": "1"},
        "/devices": {"location_id": site["id"], "name": "A", "kind": "ecg"},
        "/time-offs": {"clinician_id": doctor.id, "start": day_after(30), "end": day_after(31)},
        f"/locations/{site['id']}/holidays": {"day": day_after(30)[:10], "name": "Works outing"},
    }.items():
        assert clinic.admin.post(path, body).status_code == 201
    assert clinic.admin.put(f"/locations/{site['id']}/holiday-calendar", {"country": "DE"}).status_code == 200
    second_factor(clinic.user(Role.NURSE))
    signer = Signer()
    assert signer.ask(clinic.app, clinic.client(jwks=signer.jwks)).status_code == 200
    booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00"))
    assert clinic.admin.post("/appointments", booking, Idempotency_Key="one").status_code == 201
    came = clinic.appointment(patient, doctor, kind, day_after(7, "11:00"))
    clinic.began(came)
    assert clinic.admin.post(f"/appointments/{came['id']}/check-in").status_code == 200
    held = {"appointment_type_id": kind["id"], "clinician_id": doctor.id, "start": day_after(7, "12:00")}
    assert clinic.admin.post("/holds", held).status_code == 201
    freed = clinic.appointment(patient, doctor, kind, day_after(7, "13:00"))
    waits = {"patient_id": other["id"], "appointment_type_id": kind["id"]}
    assert clinic.admin.post("/waitlist", waits | {"from": day_after(7), "to": day_after(8)}).status_code == 201
    series = clinic.booking(patient, doctor, kind, day_after(7, "14:30")) | {"frequency": "weekly", "count": 2}
    assert clinic.admin.post("/series", series).status_code == 201
    assert clinic.admin.post(f"/appointments/{freed['id']}/cancel", {"reason": "flu"}).status_code == 200
    colleague, group = clinic.clinician(time_zone="UTC"), clinic.appointment_type(group_capacity=2)
    there = {"clinician_id": colleague.id, "start": day_after(7, "15:00"), "end": day_after(7, "16:00")}
    assert clinic.admin.post("/openings", there).status_code == 201
    seat = clinic.booking(patient, doctor, group, day_after(7, "14:00"))
    assert clinic.admin.post("/appointments", seat).status_code == 201
    together = clinic.booking(patient, doctor, kind, day_after(7, "15:00"))
    assert clinic.admin.post("/appointments", together | {"with_clinician_ids": [colleague.id]}).status_code == 201
    clinic.relate(patient, doctor)
    app = clinic.admin.post("/smart-apps", SMART_APP).get_json()
    ask_and_allow(clinic, app["client_id"], doctor, patient["id"])
    twin = clinic.patient()
    merge = {"source_patient_id": twin["id"], "reason": "registered twice"}
    assert clinic.admin.post(f"/patients/{other['id']}/merges", merge).status_code == 201
    clinic.propose_proxy(patient, clinic.user(Role.PATIENT))
    assert clinic.admin.post("/calendar-feeds", {"patient_id": patient["id"]}).status_code == 201
    said = proposed(clinic.booking(patient, doctor, kind, day_after(8, "10:00")))
    assert clinic.admin.post("/fhir/R4/Appointment", said).status_code == 201
    program = clinic.program()
    record = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}
    of_patient = {"subject": {"reference": f"Patient/{patient['id']}"}}
    kept = program.post("/fhir/R4/Observation", record | of_patient).get_json()
    again = program.put(f"/fhir/R4/Observation/{kept['id']}", record | of_patient | {"id": kept["id"]})
    assert again.get_json()["meta"]["versionId"] == "2"
    assert program.get("/fhir/R4/$export").status_code == 202
    with clinic.app.app_context():
        assert bulk.run([clinic.organization_id]) == 1
    with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
        importing.progress(b"digest", "file.ndjson")
        db.session.commit()
    glass = {"reason_code": "EMERGENCY", "reason": "found unconscious"}
    assert clinic.user(Role.NURSE).post(f"/patients/{patient['id']}/break-glass", glass).status_code == 201
    return clinic


@pytest.fixture(scope="module")
def clinics(app: Flask) -> tuple[Clinic, Clinic]:
    """Two of them."""
    return furnished(Clinic(app)), furnished(Clinic(app))


TABLES = sorted(Base.metadata.tables)
TENANT_TABLES = sorted(
    name
    for name, table in Base.metadata.tables.items()
    if "organization_id" in table.columns and name not in {"organization", *WRITTEN_ONLY}
)


class TestCatalog:
    """What the database says about its tables."""

    def test_every_table_of_tenants_is_guarded(self, owner: Connection) -> None:
        """Row-level security enabled, forced and with a policy; a new table fails here until it is."""
        rows = owner.execute(
            """
            SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,
                   EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid),
                   EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id')
            FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'v', 'f')
            """
        ).fetchall()
        assert {name for name, *_ in rows} == {*TABLES, "alembic_version"}
        assert {name for name, forced, policy, _ in rows if not (forced and policy)} == OF_THE_INSTALLATION
        assert {name for name, *_, tenant in rows if not tenant} == OF_THE_INSTALLATION | {"organization"}

    def test_every_policy_of_a_tenants_table_asks_for_the_organisation(self, owner: Connection) -> None:
        """But for the doors that have a reason: sign-in by email, an organisation by its name, registration, a feed's
        secret, an app's id or origin; and those of the roles that seal and verify the trail, which the program has not.
        """
        rows = owner.execute(
            "SELECT tablename, policyname, cmd, coalesce(qual, with_check), roles FROM pg_policies"
            " WHERE permissive = 'PERMISSIVE' AND coalesce(qual, with_check) NOT LIKE '%current_organization()%'"
            " AND NOT roles <@ '{medical_sealer,medical_verifier}'"
        ).fetchall()
        doors = {(table, policy): (command, condition) for table, policy, command, condition, _ in rows}
        assert set(doors) == {
            ("users", "sign_in"),
            ("organization", "open"),
            ("organization", "named"),
            ("calendar_feed", "subscription"),
            ("smart_app", "sign_in"),
            ("smart_app", "browser"),
        }
        assert {command for command, _ in doors.values()} == {"SELECT"}

    def test_the_programs_role_owns_nothing_and_bypasses_nothing(self, owner: Connection) -> None:
        """Neither by itself nor through a role that it is a member of."""
        flags = owner.execute(
            """
            SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication,
                   EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid),
                   EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid),
                   EXISTS (SELECT FROM pg_proc p WHERE p.proowner = r.oid),
                   EXISTS (SELECT FROM pg_namespace n WHERE n.nspowner = r.oid),
                   EXISTS (SELECT FROM pg_database d WHERE d.datdba = r.oid),
                   has_schema_privilege(r.oid, 'public', 'CREATE')
            FROM pg_roles r WHERE rolname = %s
            """,
            [APP_ROLE],
        ).fetchone()
        assert flags == (False,) * 11

    def test_the_program_works_as_that_role(self, app: Flask) -> None:
        """Whoever it logs in as."""
        with app.app_context():
            assert db.session.scalars(text("SELECT current_user::text")).one() == APP_ROLE

    def test_few_functions_run_with_their_owners_rights(self, owner: Connection) -> None:
        """Such a one is a door through the policies: each asks for the organisation itself, and has a fixed path."""
        query = (
            "SELECT proname, prosrc LIKE '%organization_id = current_organization()%' OR proname = 'seen_patients',"
            " proconfig FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        )
        assert {tuple(row[:2]) for row in owner.execute(query)} == {
            *((name, True) for name in WITH_OWNERS_RIGHTS),
            *((name, False) for name in OF_THE_TRAIL),
        }
        assert {tuple(row[2]) for row in owner.execute(query)} == {("search_path=pg_catalog, public",)}

    def test_references_stay_in_the_organisation(self, owner: Connection) -> None:
        """Foreign keys bypass row-level security, so those between tenants' tables carry the organisation."""
        rows = owner.execute(
            """
            SELECT conname FROM pg_constraint k
            WHERE contype = 'f' AND confrelid <> 'organization'::regclass
              AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.conrelid
                              AND a.attname = 'organization_id' AND a.attnum = ANY (k.conkey))
            """
        ).fetchall()
        assert rows == []


class TestNoScope:
    """A transaction that nobody entered an organisation for."""

    @pytest.mark.parametrize("table", TENANT_TABLES)
    def test_sees_no_rows_and_gets_no_error(self, clinics: Any, database_url: str, table: str) -> None:
        """On a fresh connection, and on one that served somebody before."""
        count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
        with as_program(database_url) as connection:
            assert connection.execute(count).fetchone() == (0,)
        with as_program(database_url, clinics[0].organization_id) as connection:
            assert connection.execute(count).fetchone() != (0,)
            connection.commit()
            assert connection.execute(count).fetchone() == (0,), "after a commit"
            connection.execute("SELECT set_config('app.organization_id', %s, true)", [str(clinics[0].organization_id)])
            connection.rollback()
            assert connection.execute(count).fetchone() == (0,), "after a rollback"

    def test_writes_nothing(self, clinics: Any, database_url: str) -> None:
        """An insert is refused, updates and deletes find nothing."""
        insert = "INSERT INTO location (id, organization_id, name, time_zone, version) VALUES (%s, %s, 'x', 'UTC', 1)"
        with as_program(database_url) as connection:
            assert connection.execute("UPDATE patient SET family_name = 'x'").rowcount == 0
            assert connection.execute("DELETE FROM availability").rowcount == 0
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                connection.execute(insert, [UUID(int=1), clinics[0].organization_id])

    def test_the_programs_sessions_begin_without_one(self, clinics: Any, app: Flask) -> None:
        """What one session entered, the next one does not inherit."""
        with app.app_context(), scoped(Scope(clinics[0].organization_id)):
            assert db.session.scalars(select(User)).all()
            db.session.commit()
        with app.app_context():
            assert db.session.scalars(select(User)).all() == []


class TestScope:
    """A transaction of one organisation."""

    @pytest.mark.parametrize("table", [*TENANT_TABLES, "organization"])
    def test_sees_its_own_rows_only(
        self, clinics: Any, owner: Connection, database_url: str, table: str, open_clinic: Clinic
    ) -> None:
        """With a plain SELECT, as if every filter of the program were forgotten."""
        column = "id" if table == "organization" else "organization_id"
        query = sql.SQL("SELECT DISTINCT {} FROM {}").format(sql.Identifier(column), sql.Identifier(table))
        ours, theirs = (clinic.organization_id for clinic in clinics)
        assert {row[0] for row in owner.execute(query)} >= {ours, theirs}, "both have rows, or this shows nothing"
        open_to_all = {open_clinic.organization_id} if table == "organization" else set()
        for own in (ours, theirs):
            with as_program(database_url, own) as connection:
                assert {row[0] for row in connection.execute(query)} == {own} | open_to_all

    def test_changes_its_own_rows_only(self, clinics: Any, database_url: str) -> None:
        """An UPDATE or DELETE of everything ends at the border."""
        with as_program(database_url, clinics[0].organization_id) as connection:
            for statement in ("UPDATE patient SET family_name = 'x'", "DELETE FROM availability"):
                assert connection.execute(statement).rowcount >= 1
            connection.execute("SELECT set_config('app.organization_id', %s, true)", [str(clinics[1].organization_id)])
            query = "SELECT count(*) FILTER (WHERE family_name = 'x'), count(*) FROM patient"
            assert connection.execute(query).fetchone() == (0, 3)
            assert connection.execute("SELECT count(*) FROM availability").fetchone() == (1,)

    @pytest.mark.parametrize("table", ["location", "patient", "users"])
    def test_gives_no_row_to_another(self, clinics: Any, database_url: str, table: str) -> None:
        """Neither by moving one there nor by making one there."""
        statement = sql.SQL("UPDATE {} SET organization_id = %s").format(sql.Identifier(table))
        with (
            as_program(database_url, clinics[0].organization_id) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
        ):
            connection.execute(statement, [clinics[1].organization_id])

    def test_does_not_refer_to_anothers_row(self, clinics: Any, app: Flask, owner: Connection) -> None:
        """Even the owner of the database cannot let a clinician work at somebody else's site."""
        here, there = clinics
        place = there.location()
        doctor = here.clinician()
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            owner.execute("UPDATE clinician SET location_id = %s WHERE id = %s", [place["id"], doctor.user_id])

    def test_is_that_of_its_organisation_by_default(self, clinics: Any, app: Flask) -> None:
        """A row that names no organisation belongs to the present one."""
        with app.app_context(), scoped(Scope(clinics[0].organization_id)):
            place = Location(name="by default", time_zone="UTC")
            db.session.add(place)
            db.session.flush()
            assert place.organization_id == clinics[0].organization_id


class TestHistory:
    """The trail and the history of appointments are added to, and nothing else."""

    @pytest.mark.parametrize("table", sorted(APPENDED_TO))
    @pytest.mark.parametrize("statement", ["UPDATE {} SET occurred_at = now()", "DELETE FROM {}", "TRUNCATE {}"])
    def test_the_program_cannot_change_it(self, clinics: Any, database_url: str, table: str, statement: str) -> None:
        """The role lacks the privilege; reading it works."""
        name = sql.Identifier(table)
        with as_program(database_url, clinics[0].organization_id) as connection:
            assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone() != (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
                connection.execute(sql.SQL(statement).format(name))

    def test_the_programs_session_cannot_either(self, clinics: Any, app: Flask) -> None:
        """By whatever way it goes."""
        with app.app_context(), scoped(Scope(clinics[0].organization_id)):
            with pytest.raises(ProgrammingError, match="permission denied"):
                db.session.execute(text("DELETE FROM audit_event"))
            db.session.rollback()

    def test_an_event_is_nobody_elses(self, clinics: Any, database_url: str) -> None:
        """Not even an invented one can be slipped into another organisation's trail."""
        insert = (
            "INSERT INTO audit_event (id, organization_id, occurred_at, actor_roles, action, outcome)"
            " VALUES (gen_random_uuid(), %s, now(), '{}', 'made.up', 'success')"
        )
        for other in (clinics[1].organization_id, None):
            with (
                as_program(database_url, clinics[0].organization_id) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
            ):
                connection.execute(insert, [other])


class Oops(Exception):
    """A failure in the middle of a request."""


class TestMixedLoad:
    """Two organisations, a few connections, many threads, and failures in between."""

    THREADS, REQUESTS = 8, 3000

    def test_nobody_ever_sees_a_foreign_row(self, clinics: Any, database_url: str, app: Flask) -> None:
        """Each piece of work sees its organisation's users, all of them and no others; without scope, nobody."""
        small = create_app(
            {"database_url": database_url, "secret_key": SECRET, "mode": Mode.TEST, "database_pool_size": 3}
        )
        wanted = {clinic.organization_id: self.users_of(app, clinic) for clinic in clinics} | {None: set()}
        choose = random.Random(20260101)
        plan = [(choose.choice(list(wanted)), choose.random()) for _ in range(self.REQUESTS)]
        with ThreadPoolExecutor(self.THREADS) as pool:
            seen = list(pool.map(lambda piece: self.work(small, *piece), plan))
        with small.app_context():
            left_open = db.engine.pool.checkedout()  # type: ignore[attr-defined]  # a QueuePool
            db.engine.dispose()
        assert left_open == 0, "every connection came back, whatever its work came to"
        foreign = [
            (organization_id, users)
            for (organization_id, _), users in zip(plan, seen, strict=True)
            if users != wanted[organization_id]
        ]
        assert foreign == []

    def test_nobody_ever_is_answered_with_a_foreign_row(self, clinics: Any, app: Flask) -> None:
        """The same over HTTP: patients listed, patients of the other asked for, strangers refused."""
        mine = {clinic.organization_id: clinic.admin.get("/patients").get_json()["items"] for clinic in clinics}
        choose = random.Random(20260102)
        plan = [(choose.randrange(2), choose.choice(["list", "own", "foreign", "nobody"])) for _ in range(600)]

        def call(piece: tuple[int, str]) -> bool:
            here, there = clinics[piece[0]], clinics[1 - piece[0]]
            own, foreign = mine[here.organization_id], mine[there.organization_id]
            if piece[1] == "list":
                return bool(here.admin.get("/patients").get_json()["items"] == own)
            if piece[1] == "own":
                return bool(here.admin.get(f"/patients/{own[0]['id']}").get_json() == own[0])
            if piece[1] == "foreign":
                return bool(here.admin.get(f"/patients/{foreign[0]['id']}").status_code == 404)
            return bool(Caller(app).get(f"/patients/{own[0]['id']}").status_code == 401)

        with ThreadPoolExecutor(self.THREADS) as pool:
            right = list(pool.map(call, plan))
        assert [piece for piece, fine in zip(plan, right, strict=True) if not fine] == []

    @staticmethod
    def work(app: Flask, organization_id: UUID | None, fate: float) -> set[UUID]:
        """What a request sees that then commits, rolls back, fails, is refused, or simply ends."""
        users: set[UUID] = set()
        try:
            with app.app_context():
                enter(Scope(organization_id) if organization_id else None)
                users = set(db.session.scalars(select(User.id)))
                if fate < 0.2:
                    db.session.commit()
                    users &= set(db.session.scalars(select(User.id)))
                elif fate < 0.4:
                    db.session.rollback()
                    users &= set(db.session.scalars(select(User.id)))
                elif fate < 0.6:
                    raise Oops
                elif fate < 0.7:
                    raise NotFound
                elif fate < 0.8:
                    db.session.execute(text("SELECT 1/0"))
        except (Oops, NotFound):
            pass
        except DataError:
            pass
        except NoConnection:
            return TestMixedLoad.work(app, organization_id, fate)
        finally:
            enter(None)
        return users

    @staticmethod
    def users_of(app: Flask, clinic: Clinic) -> set[UUID]:
        """The ids of everybody in the organisation."""
        clinic.admin.get("/me")
        with app.app_context(), scoped(Scope(clinic.organization_id)):
            return set(db.session.scalars(select(User.id)))
