"""The trail as the program leaves it: what is in it, who may touch it, and that nothing happens without it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from alembic import command
from flask import Flask
from psycopg import sql
from psycopg.rows import dict_row

from medical.identity.permissions import Role
from medical.platform import schema
from tests.clinic import PASSWORD, Caller, Clinic, day_after
from tests.conftest import MakeDatabase, psycopg_url

APP, SEALER, VERIFIER = "medical_app", "medical_sealer", "medical_verifier"
PROOF = ("audit_event", "audit_search", "audit_link", "audit_seal", "audit_archive")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def url(database_url: str, app: Flask) -> str:
    """The database as its owner reaches it."""
    return psycopg_url(database_url)


def events(url: str, clinic: Clinic, **having: Any) -> list[Row]:
    """What the trail of a clinic holds, oldest first."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        query = "SELECT * FROM audit_event WHERE organization_id = %s ORDER BY occurred_at, id"
        rows = connection.execute(query, [clinic.organization_id]).fetchall()
    return [row for row in rows if all(row[name] == value for name, value in having.items())]


@contextmanager
def as_role(url: str, role: str, organization_id: UUID | None = None) -> Iterator[psycopg.Connection[Any]]:
    """A connection that works as ``role``; rolled back at the end."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        connection.commit()
        if organization_id:
            connection.execute("SELECT set_config('app.organization_id', %s, true)", [str(organization_id)])
        yield connection
        connection.rollback()


@contextmanager
def no_trail(url: str, clinic: Clinic) -> Iterator[None]:
    """Inside the block no event of this clinic can be written."""
    name = sql.Identifier(f"refuse_{clinic.organization_id.hex}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'the disk of the trail is gone'; END $$"
            ).format(name)
        )
        connection.execute(
            sql.SQL(
                "CREATE TRIGGER {0} BEFORE INSERT ON audit_event FOR EACH ROW"
                " WHEN (NEW.organization_id = {1}) EXECUTE FUNCTION {0}()"
            ).format(name, sql.Literal(clinic.organization_id))
        )
        try:
            yield
        finally:
            connection.execute(sql.SQL("DROP FUNCTION {} CASCADE").format(name))


class TestWhatIsLeft:
    """AUD-01: one event for each patient touched, whatever became of it."""

    def test_a_search_leaves_one_event_for_each_patient_found(self, clinic: Clinic, url: str) -> None:
        """Of those that were shown, and one of none where nobody was found."""
        found = {clinic.patient(family_name="Searchable")["id"] for _ in range(3)}
        clinic.patient(family_name="Somebodyelse")
        clinic.admin.get("/patients", q="Searchable")
        left = events(url, clinic, action="patient.searched")
        assert {str(row["patient_id"]) for row in left} == found
        assert len(left) == 3
        clinic.admin.get("/patients", q="Nobodyofthisname")
        assert [row["patient_id"] for row in events(url, clinic, action="patient.searched")[3:]] == [None]

    def test_sign_in_its_failure_and_its_end_leave_theirs(self, clinic: Clinic, app: Flask, url: str) -> None:
        """With the account, where there is one."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        email = clinic.email_of(nurse)
        guest = Caller(app)
        assert guest.post("/auth/login", {"email": email, "password": "not the password"}).status_code == 401
        begun = guest.post("/auth/login", {"email": email, "password": PASSWORD}).get_json()
        assert Caller(app, begun["access_token"]).post("/auth/logout").status_code == 204
        left = [(row["action"], row["outcome"], row["code"]) for row in events(url, clinic, entity_id=nurse.user_id)]
        assert left == [
            ("session.started", "refused", "invalid_credentials"),
            ("session.started", "success", None),
            ("session.ended", "success", None),
        ]

    def test_an_unknown_account_leaves_one_of_nobodys(self, app: Flask, url: str) -> None:
        """Which no organisation sees."""
        answer = Caller(app).post("/auth/login", {"email": "nobody@trail.example", "password": PASSWORD})
        query = "SELECT organization_id, outcome FROM audit_event WHERE request_id = %s"
        with psycopg.connect(url) as connection:
            assert connection.execute(query, [answer.headers["X-Request-ID"]]).fetchall() == [(None, "refused")]

    def test_a_denial_leaves_one(self, clinic: Clinic, url: str) -> None:
        """By role (403) and by sight (404)."""
        patient = clinic.patient()
        auditor, stranger = clinic.user(Role.AUDITOR), clinic.user(Role.PATIENT)
        auditor.get(f"/patients/{patient['id']}")
        stranger.get(f"/patients/{patient['id']}")
        denied, hidden = events(url, clinic, action="patient.read")
        assert (denied["outcome"], denied["code"], denied["actor_id"]) == ("denied", "forbidden", auditor.user_id)
        assert (hidden["outcome"], hidden["code"], str(hidden["patient_id"])) == ("refused", "not_found", patient["id"])

    def test_a_change_and_its_refusal_leave_one_each(self, clinic: Clinic, url: str) -> None:
        """A booking, and a second one of the same time."""
        patient, doctor, kind = clinic.patient(), clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(doctor)
        booking = clinic.booking(patient, doctor, kind, day_after(7, "10:00"))
        assert clinic.admin.post("/appointments", booking).status_code == 201
        other = clinic.booking(clinic.patient(), doctor, kind, day_after(7, "10:00"))
        assert clinic.admin.post("/appointments", other).status_code == 409
        left = events(url, clinic, action="appointment.booked")
        assert {row["outcome"] for row in left} == {"success", "refused"}
        assert {str(row["patient_id"]) for row in left} >= {patient["id"], other["patient_id"]}


class TestSearchText:
    """AUD-02: what was searched for is kept, and kept apart."""

    def test_the_events_know_it_by_its_digest_only(self, clinic: Clinic, url: str) -> None:
        """Which is that of the text that lies elsewhere."""
        clinic.patient(family_name="Kept")
        clinic.admin.get("/patients", q="Kept")
        [event] = events(url, clinic, action="patient.searched")
        assert "Kept" not in str(event)
        with psycopg.connect(url) as connection:
            [(salt, content)] = connection.execute(
                "SELECT salt, content FROM audit_search WHERE digest = %s AND occurred_at = %s",
                [event["search_digest"], event["occurred_at"]],
            ).fetchall()
        assert content == "Kept"
        assert sha256(b"medical-audit-search-1\n" + salt + b"Kept").digest() == event["search_digest"]

    def test_the_program_never_sees_it_again(self, clinic: Clinic, url: str) -> None:
        """Nor may the sealer; the verifier's role may."""
        clinic.admin.get("/patients", q="Hidden")
        for role in (APP, SEALER):
            with (
                as_role(url, role, clinic.organization_id) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute("SELECT content FROM audit_search")
        with as_role(url, VERIFIER) as connection:
            found = connection.execute("SELECT content FROM audit_search").fetchall()
        assert ("Hidden",) in found

    def test_it_is_written_for_ones_own_organisation_only(self, clinic: Clinic, other_clinic: Clinic, url: str) -> None:
        """Row-level security holds for it as well."""
        insert = "INSERT INTO audit_search VALUES (%s, now(), %s, 'x', 'x')"
        with (
            as_role(url, APP, clinic.organization_id) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"),
        ):
            connection.execute(insert, [b"x", other_clinic.organization_id])


class TestFailsClosed:
    """AUD-03: what cannot be trailed does not happen."""

    def test_a_change_is_not_there(self, clinic: Clinic, url: str) -> None:
        """Refused as a problem that says so, and the same works afterwards."""
        patient = clinic.patient()
        with no_trail(url, clinic):
            answer = clinic.admin.patch(f"/patients/{patient['id']}", {"phone": "+49 30 901820"})
            assert (answer.status_code, answer.get_json()["code"]) == (503, "audit_unavailable")
            made = clinic.admin.post("/locations", {"name": "A place", "time_zone": "UTC"})
            assert made.status_code == 503
        assert clinic.admin.get(f"/patients/{patient['id']}").get_json() == patient
        assert clinic.admin.get("/locations").get_json()["items"] == []
        assert clinic.admin.patch(f"/patients/{patient['id']}", {"phone": "+49 30 901820"}).status_code == 200

    @pytest.mark.parametrize("path", ["/patients", "/patients?q=Secret", "/patients/{id}", "/appointments", "/users"])
    def test_a_read_shows_nothing(self, clinic: Clinic, url: str, path: str) -> None:
        """Not a byte of the patient."""
        patient = clinic.patient(family_name="Secretname")
        with no_trail(url, clinic):
            answer = clinic.admin.call("GET", path.format(id=patient["id"]))
        assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
        assert "Secretname" not in answer.text

    def test_a_denial_stays_one(self, clinic: Clinic, url: str) -> None:
        """Who may not read is not answered either."""
        patient = clinic.patient()
        with no_trail(url, clinic):
            answer = clinic.user(Role.AUDITOR).get(f"/patients/{patient['id']}")
        assert answer.status_code == 503

    def test_a_repeat_with_its_key_goes_through_later(self, clinic: Clinic, url: str) -> None:
        """The key was not used up by the failure."""
        place = {"name": "Another place", "time_zone": "UTC"}
        with no_trail(url, clinic):
            assert clinic.admin.post("/locations", place, Idempotency_Key="once").status_code == 503
        assert clinic.admin.post("/locations", place, Idempotency_Key="once").status_code == 201


class TestNobodyChangesIt:
    """AUD-04: every runtime role may add what is its own to add, and change nothing."""

    @pytest.mark.parametrize("role", [APP, SEALER, VERIFIER])
    @pytest.mark.parametrize("table", PROOF)
    @pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
    def test_is_refused(self, clinic: Clinic, url: str, role: str, table: str, statement: str) -> None:
        """For want of the privilege, not of rows."""
        column = sql.Identifier("archived_at" if table == "audit_archive" else "digest")
        if table == "audit_seal":
            column = sql.Identifier("head")
        parts = [sql.Identifier(table), column, column][: statement.count("{}")]
        with (
            as_role(url, role, clinic.organization_id) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
        ):
            connection.execute(sql.SQL(statement).format(*parts))

    def test_what_each_may_do_is_this(self, url: str) -> None:
        """On the tables as a whole and on single columns; on the months nothing, nor may anybody enter them."""
        query = """
            SELECT grantee::regrole::text, c.relname, privilege_type
            FROM pg_class c, aclexplode(c.relacl)
            WHERE c.relname LIKE 'audit%%' AND c.relkind IN ('r', 'p') AND grantee = ANY (%(roles)s::regrole[])
            UNION
            SELECT grantee::regrole::text, c.relname || '.columns', privilege_type
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl)
            WHERE c.relname LIKE 'audit%%' AND grantee = ANY (%(roles)s::regrole[])
        """
        with psycopg.connect(url) as connection:
            granted = set(connection.execute(query, {"roles": [APP, SEALER, VERIFIER]}).fetchall())
            inside = connection.execute(
                "SELECT count(*) FROM pg_class WHERE relnamespace = 'audit_month'::regnamespace AND relacl IS NOT NULL"
            ).fetchone()
            enters = [
                connection.execute("SELECT has_schema_privilege(%s, 'audit_month', 'USAGE')", [role]).fetchone()
                for role in (APP, SEALER, VERIFIER)
            ]
        assert granted == {
            (APP, "audit_event", "SELECT"),
            (APP, "audit_event.columns", "INSERT"),
            (APP, "audit_search", "INSERT"),
            (APP, "audit_link", "SELECT"),
            (APP, "audit_seal", "SELECT"),
            (SEALER, "audit_event.columns", "SELECT"),
            (SEALER, "audit_link", "SELECT"),
            (SEALER, "audit_link", "INSERT"),
            (SEALER, "audit_seal", "SELECT"),
            (SEALER, "audit_seal", "INSERT"),
            (SEALER, "audit_archive", "SELECT"),
        } | {(VERIFIER, table, "SELECT") for table in PROOF}
        assert inside == (0,)
        assert enters == [(False,)] * 3

    def test_the_program_cannot_pretend_an_earlier_transaction(self, clinic: Clinic, url: str) -> None:
        """So no event can hide behind the sealer."""
        insert = (
            "INSERT INTO audit_event (id, organization_id, occurred_at, actor_roles, action, outcome, format, digest,"
            " transaction_id) VALUES (gen_random_uuid(), %s, now(), '{}', 'made.up', 'success', 1, sha256(''), '3')"
        )
        with (
            as_role(url, APP, clinic.organization_id) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
        ):
            connection.execute(insert, [clinic.organization_id])


class TestMonths:
    """The trail lies in a partition for each month."""

    def test_the_present_one_and_two_more_are_there(self, clinic: Clinic, url: str) -> None:
        """Events of now do not lie in the rest."""
        clinic.patient()
        query = "SELECT DISTINCT tableoid::regclass::text FROM audit_event WHERE organization_id = %s"
        with psycopg.connect(url) as connection:
            assert connection.execute(query, [clinic.organization_id]).fetchall() == [
                (f"audit_month.event_{datetime.now(UTC):%Y_%m}",)
            ]
            months = connection.execute(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_event'::regclass"
            ).fetchone()
        assert months is not None
        assert months[0] >= 4

    def test_what_came_before_its_month_was_made_moves_there(self, make_database: MakeDatabase) -> None:
        """Nothing is refused meanwhile, and the sealer's role makes months without owning them."""
        url = make_database.migrated()
        insert = (
            "INSERT INTO audit_event (id, occurred_at, actor_roles, action, outcome, format, digest)"
            " VALUES (gen_random_uuid(), %s, '{}', 'made.up', 'success', 1, sha256(''))"
        )
        where = "SELECT tableoid::regclass::text FROM audit_event"
        with psycopg.connect(psycopg_url(url), autocommit=True) as connection:
            connection.execute(insert, [datetime(2024, 2, 29, 23, 59, tzinfo=UTC)])
            assert connection.execute(where).fetchall() == [("audit_month.event_rest",)]
            connection.execute("SELECT add_audit_month('2024-02-01')")
            assert connection.execute(where).fetchall() == [("audit_month.event_2024_02",)]
            connection.execute("SET ROLE medical_sealer")
            connection.execute("SELECT prepare_audit_months()")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT add_audit_month('2030-01-01')")

    def test_earlier_events_are_carried_over_with_their_digests(self, make_database: MakeDatabase) -> None:
        """From the revision before, and back to it."""
        url = make_database()
        config = schema.configuration(url)
        command.upgrade(config, "0008")
        old = {
            "id": UUID(int=5),
            "organization": UUID(int=1),
            "at": datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "roles": ["admin", "nürse"],
            "patient": UUID(int=7),
        }
        with psycopg.connect(psycopg_url(url)) as connection:
            connection.execute("INSERT INTO organization VALUES (%(organization)s, 'x', false)", old)
            connection.execute(
                "INSERT INTO audit_event (id, organization_id, occurred_at, actor_roles, action, outcome, patient_id)"
                " VALUES (%(id)s, %(organization)s, %(at)s, %(roles)s, 'patient.read', 'success', %(patient)s),"
                " (gen_random_uuid(), NULL, %(at)s, '{}', 'x', 'y', NULL)",
                old,
            )
        command.upgrade(config, "0009")
        parts = [
            b"\x01\0\0\0\x10" + UUID(int=1).bytes,
            b"\x01\0\0\0\x08" + (1767225599999999).to_bytes(8, "big"),
            b"\0",
            b"\x01\0\0\0\x19" + b"\0\0\0\x02" + b"\x01\0\0\0\x05admin" + b"\x01\0\0\0\x06" + "nürse".encode(),
            b"\0" * 4,
            b"\x01\0\0\0\x0cpatient.read",
            b"\x01\0\0\0\x07success",
            b"\0" * 4,
            b"\x01\0\0\0\x10" + UUID(int=5).bytes,
            b"\x01\0\0\0\x10" + UUID(int=7).bytes,
            b"\0" * 2,
        ]
        with psycopg.connect(psycopg_url(url)) as connection:
            [(digest, place)] = connection.execute(
                "SELECT digest, tableoid::regclass::text FROM audit_event WHERE id = %(id)s", old
            ).fetchall()
        assert digest == sha256(b"medical-audit-event-1\n" + b"".join(parts)).digest()
        assert place == "audit_month.event_2025_12"
        command.downgrade(config, "0008")
        with psycopg.connect(psycopg_url(url)) as connection:
            assert connection.execute("SELECT count(*) FROM audit_event").fetchone() == (2,)


def test_one_statement_writes_the_events_of_a_request(clinic: Clinic, statements: Any) -> None:
    """However many patients it touches."""
    for _ in range(12):
        clinic.patient(family_name="Many")
    clinic.admin.get("/patients")
    statements.clear()
    clinic.admin.get("/patients")
    assert len([one for one in statements.sent if "INSERT INTO audit_event" in one]) == 1


def test_racing_requests_each_leave_their_own(clinic: Clinic, url: str) -> None:
    """No event is lost or taken for another's."""
    patients = [clinic.patient() for _ in range(8)]
    threads = [
        threading.Thread(target=lambda one=patient: [clinic.admin.get(f"/patients/{one['id']}") for _ in range(5)])
        for patient in patients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = [str(row["patient_id"]) for row in events(url, clinic, action="patient.read")]
    assert sorted(left) == sorted([patient["id"] for patient in patients] * 5)
