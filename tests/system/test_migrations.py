"""The schema's history: one line, there and back, and in step with the models."""

import re
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import medical.app  # noqa: F401 - every model is defined
from medical.platform import schema
from medical.platform.db import Base
from medical.platform.postgres import DATABASE, EmbeddedPostgres
from medical.platform.revision import MIGRATIONS, wanted_revision
from medical.platform.waiting import conninfo
from tests.cli.program import folder
from tests.conftest import MakeDatabase, psycopg_url

CATALOG = """
    SELECT 'column', c.relname || '.' || a.attname,
           concat_ws(' ', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
                     pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'relation', relname, concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity,
           (SELECT string_agg(acl::text, ',' ORDER BY acl::text) FROM unnest(relacl) acl))
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT 'policy', tablename || '.' || policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
    FROM pg_policies
    UNION ALL
    SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid)
    FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND prokind = 'f'
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
    UNION ALL
    SELECT 'sequence', sequencename, concat_ws(' ', data_type, start_value, increment_by, cycle) FROM pg_sequences
    UNION ALL
    SELECT 'extension', extname, extversion FROM pg_extension
    ORDER BY 1, 2, 3
"""
"""Everything of a schema that a program could notice, as (kind, name, definition)."""

Catalog = list[tuple[Any, ...]]


def catalog(url: str) -> Catalog:
    """What stands in the database."""
    with psycopg.connect(psycopg_url(url)) as connection:
        return connection.execute(CATALOG).fetchall()


def names(found: Catalog, kind: str) -> set[str]:
    """The names of one kind of thing."""
    return {name for a_kind, name, _ in found if a_kind == kind}


@pytest.fixture(scope="module")
def migrated(make_database: MakeDatabase) -> str:
    """A database of this module alone, at the head."""
    return make_database.migrated()


ONE, OTHER = UUID(int=11), UUID(int=12)
VALUES = [
    (1, "patient", "Patient", str(ONE)),
    (1, "code", None, None),
    (2, "patient", "Patient", str(ONE)),
    (2, "patient", "Patient", str(OTHER)),
    (3, "patient", "Patient", str(ONE)),
    (3, "patient", None, None),
    (4, "patient", "Patient", "no-uuid"),
    (5, "code", None, None),
]
"""Resource, parameter and target: of one patient, of two, of one and somebody elsewhere, of a strange id, of nobody."""


class TestHistory:
    """The files under migrations/versions."""

    def test_has_one_head(self) -> None:
        """Two people who add a revision at once are told at once."""
        assert schema.scripts().get_heads() == [wanted_revision()]
        assert len(schema.scripts().get_bases()) == 1

    def test_counts_on_in_its_file_names(self) -> None:
        """NNNN_slug, without a gap, each revision named by its number and following the one before."""
        files = sorted(path.stem for path in (MIGRATIONS / "versions").glob("*.py"))
        revisions = list(schema.scripts().walk_revisions())[::-1]
        assert [name[:4] for name in files] == [f"{number:04d}" for number in range(1, len(files) + 1)]
        assert all(re.fullmatch(r"\d{4}(_[a-z0-9]+)+", name) for name in files)
        assert [Path(revision.path).stem for revision in revisions] == files
        assert [revision.revision for revision in revisions] == [name[:4] for name in files]
        assert [revision.down_revision for revision in revisions] == [None, *(name[:4] for name in files[:-1])]

    def test_agrees_with_the_pinned_head(self) -> None:
        """A file that two branches cannot both change without a conflict."""
        [head] = schema.scripts().get_heads()
        pinned = (MIGRATIONS / ".current-head").read_text()
        assert pinned == Path(schema.scripts().get_revision(head).path).stem + "\n"

    def test_knows_no_models(self) -> None:
        """A revision says what was, not what is."""
        for path in (MIGRATIONS / "versions").glob("*.py"):
            assert not re.search(r"^\s*(from|import) medical\.(?!platform\.tenancy)", path.read_text(), re.MULTILINE)

    def test_says_what_it_locks(self) -> None:
        """Every revision tells whoever runs it."""
        for path in (MIGRATIONS / "versions").glob("*.py"):
            assert "lock" in path.read_text().split('"""')[1]


class TestRoundTrip:
    """Up, down and up again."""

    def test_leads_to_the_same_schema(self, make_database: MakeDatabase) -> None:
        """And down to where it began, from every revision on the way."""
        url = make_database()
        config, empty = schema.configuration(url), catalog(url)
        steps = [revision.revision for revision in schema.scripts().walk_revisions()][::-1]
        going_up = []
        for revision in steps:
            command.upgrade(config, revision)
            going_up.append(catalog(url))
        for before in [*going_up[-2::-1], None]:
            command.downgrade(config, "-1")
            if before is not None:
                assert catalog(url) == before
        assert [row for row in catalog(url) if "alembic_version" not in row[1]] == empty
        command.upgrade(config, "head")
        assert catalog(url) == going_up[-1]
        assert len({tuple(found) for found in going_up}) == len(steps), "each step changes something"

    def test_is_no_work_a_second_time(self, migrated: str) -> None:
        """A start on a database that is current leaves it alone."""
        before = catalog(migrated)
        schema.migrate(migrated)
        assert catalog(migrated) == before


class TestModels:
    """What the models say is what the database has."""

    def test_have_no_drift(self, migrated: str) -> None:
        """Alembic finds nothing to do: tables, columns, types, defaults, comments, indexes, foreign keys."""
        engine = create_engine(migrated, poolclass=NullPool)
        options = {"compare_type": True, "compare_server_default": True}
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, Base.metadata) == []

    def test_drift_would_be_found(self, migrated: str, make_database: MakeDatabase) -> None:
        """The same comparison on a database that is a revision behind."""
        url = make_database()
        command.upgrade(schema.configuration(url), "0002")
        with create_engine(url, poolclass=NullPool).connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata)

    def test_name_every_constraint_that_there_is(self, migrated: str) -> None:
        """Checks and exclusions too, which Alembic does not compare."""
        described = {
            f"{table.name}.{constraint.name}"
            for table in Base.metadata.tables.values()
            for constraint in table.constraints
            if constraint.name
        }
        found = {name for name in names(catalog(migrated), "constraint") if not name.startswith("alembic_version")}
        found = {name for name in found if not name.endswith("_not_null")}
        assert found == described


class TestValuesOfPatients:
    """0024 fills in what it adds, as the owner of the tables, whom row-level security binds."""

    def test_name_the_patient_of_their_resource_where_that_is_one(self) -> None:
        with folder() as place, EmbeddedPostgres(place / "data", durable=False) as server:
            config = schema.configuration(server.owner_url)
            command.upgrade(config, "0023")
            url = conninfo(server.superuser_url)
            with psycopg.connect(url, dbname=DATABASE) as connection:
                connection.execute("SET session_replication_role = replica")  # no rows that these refer to
                for resource, parameter, target_type, target in VALUES:
                    connection.execute(
                        "INSERT INTO resource_value (organization_id, resource_id, type, parameter, target_type,"
                        " target_id) VALUES (gen_random_uuid(), %s, 'Observation', %s, %s, %s)",
                        [str(UUID(int=resource)), parameter, target_type, target],
                    )
            command.upgrade(config, "0024")
            with psycopg.connect(url, dbname=DATABASE) as connection:
                query = "SELECT resource_id, parameter, subject_id FROM resource_value ORDER BY id"
                found = connection.execute(query).fetchall()
        subjects = [(resource.int, parameter, subject) for resource, parameter, subject in found if subject]
        assert subjects == [(1, "patient", ONE), (1, "code", ONE)]


class TestByHand:
    """What no model describes and autogenerate would not miss."""

    def test_nobody_is_in_two_places(self, migrated: str) -> None:
        """The exclusion constraint: of one person, no two overlapping times; half-open, so that they may touch."""
        [text] = [text for _, name, text in catalog(migrated) if name == "allocation.ex_allocation_bookable_id_during"]
        assert text == "EXCLUDE USING gist (bookable_id WITH =, during WITH &&) WHERE ((kind <> 'pool'::text))"

    def test_every_version_of_an_appointment_leaves_an_event(self, migrated: str) -> None:
        """Whoever writes it."""
        [text] = [
            text for kind, name, text in catalog(migrated) if (kind, name) == ("trigger", "appointment.record_event")
        ]
        assert "AFTER INSERT OR UPDATE ON public.appointment FOR EACH ROW" in text

    def test_functions_and_extensions_are_there(self, migrated: str) -> None:
        """These, and no others."""
        found = catalog(migrated)
        assert names(found, "function") == {
            "add_audit_month(date)",
            "audit_backlog()",
            "audit_gaps(bigint,bigint)",
            "cared_patients(uuid)",
            "caller_id()",
            "care(uuid)",
            "current_organization()",
            "full_times(uuid,integer,timestamp with time zone,timestamp with time zone,timestamp with time zone,uuid)",
            "has_origin(text[],text)",
            "has_role(uuid,text[])",
            "keep_capacity()",
            "local_to_instant(timestamp without time zone,text)",
            "merged_into(uuid)",
            "move_patient_rows(uuid,uuid,jsonb)",
            "note_care()",
            "note_participant()",
            "note_upkeep()",
            "own_patients(uuid)",
            "patient_cards(uuid)",
            "prepare_audit_months()",
            "proxied_patients(uuid,text)",
            "record_appointment_event()",
            "resource_id_taken(text,text)",
            "search_key(text)",
            "taking_part(uuid)",
            "search_patient_cards(text,real)",
            "seen_patients(uuid)",
            "sees_every_patient(uuid)",
            "unbound()",
        }
        assert names(found, "extension") == {"btree_gist", "pg_trgm", "plpgsql", "unaccent"}

    def test_every_tenants_table_has_its_policy(self, migrated: str) -> None:
        """By the name of its table; tests/system/test_row_level_security.py shows that they hold."""
        tables = {name for name, table in Base.metadata.tables.items() if "organization_id" in table.columns}
        assert {name.partition(".")[0] for name in names(catalog(migrated), "policy")} == tables | {"organization"}


def test_the_schema_is_made_by_migrations_alone(project: Path) -> None:
    """The word for the other way occurs nowhere in what is ours."""
    word = "_".join(["create", "all"])
    found = subprocess.run(
        ["grep", "-rIl", "--include=*", word, "medical", "migrations", "tests", "run.py", "Makefile"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (1, "")
