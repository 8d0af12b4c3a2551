"""The way to the schema: waiting, migrating once, refusing what is newer, and roles that may."""

import subprocess
import sys
import time

import psycopg
import pytest
from sqlalchemy.engine import make_url

from medical.platform import logins, schema, waiting
from medical.platform.revision import wanted_revision
from medical.platform.waiting import DatabaseAbsent, conninfo, wait_for_database
from tests.cli.program import environment, free_port
from tests.conftest import MakeDatabase

MIGRATE = "import sys; from medical.platform import schema; schema.migrate(sys.argv[1])"


class TestWaiting:
    def test_a_server_that_answers_is_not_waited_for(self, database_url: str) -> None:
        wait_for_database(database_url, 1)

    def test_the_deadline_is_kept_and_named(self) -> None:
        began = time.monotonic()
        with pytest.raises(DatabaseAbsent, match=r"did not answer within 0\.5 s \(Connection refused\)"):
            wait_for_database(f"postgresql://somebody:hidden@127.0.0.1:{free_port()}/clinic", 0.5)
        assert time.monotonic() - began < 2

    def test_no_password_is_told(self) -> None:
        with pytest.raises(DatabaseAbsent) as refusal:
            wait_for_database(f"postgresql://somebody:hidden@127.0.0.1:{free_port()}/clinic", 0.1)
        assert "hidden" not in str(refusal.value)

    def test_what_waiting_does_not_mend_is_said_at_once(self, database_url: str) -> None:
        missing = make_url(database_url).set(database="no_such_clinic").render_as_string(hide_password=False)
        began = time.monotonic()
        with pytest.raises(DatabaseAbsent, match=r"no_such_clinic.*correct DATABASE_URL"):
            wait_for_database(missing, 30)
        assert time.monotonic() - began < 5

    @pytest.mark.parametrize(
        ("said", "word"),
        [
            ('connection to server at "db" failed: Connection refused', "refused"),
            ("connection failed: FATAL:  the database system is starting up", "starting_up"),
            ('connection failed: FATAL:  database "x" does not exist', "no_such_database"),
            ('FATAL:  password authentication failed for user "medical"', "wrong_password"),
            ("could not translate host name", "unreachable"),
            ("failed to resolve host 'db'", "unknown_host"),
        ],
    )
    def test_each_reason_has_a_word(self, said: str, word: str) -> None:
        assert waiting.reason_of(psycopg.OperationalError(said)) == word


class TestMigrate:
    def test_an_empty_database_gets_the_schema_once_however_many_start(self, make_database: MakeDatabase) -> None:
        url = make_database()
        assert schema.revisions(url) == (None, wanted_revision())
        command = [sys.executable, "-c", MIGRATE, url]
        starters = [subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL) for _ in range(3)]
        assert [starter.wait(60) for starter in starters] == [0, 0, 0]
        assert schema.revisions(url) == (wanted_revision(), wanted_revision())

    def test_a_newer_schema_is_left_alone(self, make_database: MakeDatabase) -> None:
        url = make_database()
        with psycopg.connect(conninfo(url)) as connection:
            connection.execute("CREATE TABLE alembic_version AS SELECT '9999'::varchar AS version_num")
        with pytest.raises(schema.SchemaNewer, match=rf"9999 .* up to {wanted_revision()}: install"):
            schema.migrate(url)

    def test_a_failed_migration_is_one_sentence(self, make_database: MakeDatabase) -> None:
        url = make_database()
        with psycopg.connect(conninfo(url)) as connection:
            connection.execute("CREATE TABLE organization (id int)")
        with pytest.raises(schema.SchemaError, match=r"from an empty database .* failed .*organization.* exists"):
            schema.migrate(url)
        assert schema.revisions(url)[0] is None


class TestLogins:
    def test_a_superuser_is_not_restricted_and_the_mend_is_told(self, server_url: str) -> None:
        assert logins.restricted_role_needed(server_url)
        with pytest.raises(logins.UnrestrictedRole, match=r"ALTER ROLE medical_app LOGIN .* MIGRATION_DATABASE_URL"):
            logins.ensure_restricted(server_url)

    def test_a_plain_role_is_restricted_and_may_not_migrate(self, database_url: str) -> None:
        with psycopg.connect(conninfo(database_url), autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS plain_login")
            connection.execute("CREATE ROLE plain_login LOGIN PASSWORD 'only-for-tests' IN ROLE medical_app")
        plain = make_url(database_url).set(username="plain_login", password="only-for-tests")
        login = logins.login_of(plain.render_as_string(hide_password=False))
        assert login == logins.Login("plain_login", restricted=True, may_migrate=False)
        assert logins.login_of(database_url).may_migrate
