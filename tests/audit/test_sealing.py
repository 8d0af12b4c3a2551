"""Sealing: whatever is committed gets its place, in whatever order, by one sealer at a time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from psycopg import sql

from medical.app import create_app
from medical.audit import keys
from medical.audit.sealer import ADVISORY_LOCK, ROLE, Sealer, seal_once
from medical.config import Mode
from tests.audit.conftest import Trail, live_a_little
from tests.clinic import Caller, Clinic
from tests.conftest import SECRET

INSERT = (
    "INSERT INTO audit_event (id, occurred_at, actor_roles, action, outcome, format, digest)"
    " VALUES (%s, clock_timestamp(), '{}', 'made.up', 'success', 1, sha256('x'))"
)


def until(holds: Callable[[], object], patience: float = 20) -> None:
    """Return once ``holds``; fail when it does not in time."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.02)


class TestSealing:
    """AUD-05: links and seals that a stranger can check."""

    def test_every_event_gets_a_place_and_the_trail_is_whole(self, trail: Trail) -> None:
        """In several batches; with nothing left to do a second time."""
        live_a_little(Clinic(trail.app))
        waiting = trail.waiting()
        assert waiting > 20
        assert trail.seal(limit=7) == waiting
        assert trail.waiting() == 0
        assert trail.seal() == 0
        assert trail.problems() == []
        with trail.connect() as connection:
            [(seals,)] = connection.execute("SELECT count(*) FROM audit_seal").fetchall()
        assert seals == -(-waiting // 7)

    def test_a_transaction_with_an_early_number_that_commits_late_is_not_missed(self, trail: Trail) -> None:
        """The trap: its event is older than events that were sealed before it was there."""
        late_id, early_id = uuid4(), uuid4()
        with psycopg.connect(trail.url) as late:
            late.execute(INSERT, [late_id])
            with trail.connect() as early:
                early.execute(INSERT, [early_id])
            assert trail.seal() == 0, "what is younger than a transaction that still runs waits for it"
            late.commit()
        assert trail.seal() == 2
        with trail.connect() as connection:
            rows = connection.execute("SELECT event_id FROM audit_link ORDER BY position").fetchall()
        assert rows == [(late_id,), (early_id,)]

    def test_nothing_is_missed_under_load(self, trail: Trail) -> None:
        """Writers whose transactions overlap at random, and a sealer that never stops."""
        over = threading.Event()
        sealed = []

        def write(number: int) -> None:
            with psycopg.connect(trail.url) as connection:
                for turn in range(40):
                    connection.execute(INSERT, [uuid4()])
                    if (turn + number) % 3 == 0:
                        connection.execute("SELECT pg_sleep(0.002)")
                    if (turn + number) % 7 == 0:
                        connection.rollback()
                    connection.commit()

        def seal() -> None:
            with trail.connect(ROLE) as connection:
                while not over.is_set():
                    sealed.append(seal_once(connection, trail.key, 50))

        sealer = threading.Thread(target=seal)
        writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        sealer.start()
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        over.set()
        sealer.join()
        trail.seal()
        assert trail.waiting() == 0
        assert [one for one in trail.problems() if "not the one that was sealed" not in one.said] == []

    def test_many_events_of_one_transaction_span_batches(self, trail: Trail) -> None:
        """The horizon stays at a transaction until all of it is sealed."""
        with psycopg.connect(trail.url) as connection:
            for _ in range(25):
                connection.execute(INSERT, [uuid4()])
        assert trail.seal(limit=10) == 25
        assert trail.waiting() == 0

    def test_a_trail_restored_into_another_server_goes_on(self, trail: Trail) -> None:
        """Whose transactions have smaller numbers than the last seal knows of; nothing is missed or sealed twice."""
        with trail.connect() as connection:
            connection.execute(INSERT, [uuid4()])
            trail.seal()
            connection.execute(
                "UPDATE audit_event SET transaction_id = (transaction_id::text::bigint + 1000000)::text::xid8"
            )
            connection.execute(
                "UPDATE audit_link SET transaction_id = (transaction_id::text::bigint + 1000000)::text::xid8"
            )
            connection.execute("UPDATE audit_seal SET horizon = (horizon::text::bigint + 1000000)::text::xid8")
            connection.execute(INSERT, [uuid4()])
            connection.execute(
                "INSERT INTO audit_event (id, occurred_at, actor_roles, action, outcome, format, digest,"
                " transaction_id) SELECT gen_random_uuid(), now(), '{}', 'x', 'y', 1, sha256('x'),"
                " ((horizon::text::bigint) + 3)::text::xid8 FROM audit_seal"
            )
            assert trail.seal(limit=1) == 2
            assert trail.waiting() == 0
            connection.execute(INSERT, [uuid4()])
            assert trail.seal() == 1

    def test_the_sealers_role_sees_no_more_than_it_seals(self, trail: Trail) -> None:
        """Neither who did it nor to whom."""
        with trail.connect(ROLE) as connection:
            connection.execute("SELECT id, occurred_at, transaction_id, digest FROM audit_event")
            for column in ("actor_id", "patient_id", "action", "organization_id", "source"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL("SELECT {} FROM audit_event").format(sql.Identifier(column)))
            for table in ("patient", "users", "signing_key", "audit_search"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table)))


class TestElection:
    """One sealer works, others wait for it to be gone."""

    def test_of_two_one_works_and_the_other_takes_over(self, trail: Trail) -> None:
        """When the first one's connection is cut, and for good when it ends."""
        overs = [threading.Event(), threading.Event()]
        turns: list[int] = []

        def key_of(number: int) -> Callable[[], Ed25519PrivateKey]:
            return lambda: turns.append(number) or trail.key  # type: ignore[func-returns-value]  # None

        sealers = [Sealer(trail.url, key_of(number)) for number in range(2)]
        threads = [
            threading.Thread(target=sealer.run, args=(over,)) for sealer, over in zip(sealers, overs, strict=True)
        ]
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'"
            " AND application_name = 'medical-sealer' AND query LIKE '%%pg_try_advisory_lock%%'"
        )
        holders = (
            "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
            " AND l.objid = %s AND l.granted AND a.datname = current_database()"
        )
        with trail.connect() as connection:

            def elected() -> list[int]:
                return [pid for (pid,) in connection.execute(holders, [ADVISORY_LOCK]).fetchall()]

            for thread in threads:
                thread.start()
            until(elected)
            until(lambda: connection.execute(waits, []).fetchone() == (1,))
            connection.execute(INSERT, [uuid4()])
            until(lambda: trail.waiting() == 0)
            assert len(turns) == 1
            [first] = elected()
            connection.execute("SELECT pg_terminate_backend(%s)", [first])
            until(lambda: elected() and elected() != [first])
            connection.execute(INSERT, [uuid4()])
            until(lambda: trail.waiting() == 0)
            assert len(elected()) == 1
            assert len(turns) == 2
            for over in overs:
                over.set()
            for thread in threads:
                thread.join()
            positions = connection.execute("SELECT position FROM audit_link ORDER BY position").fetchall()
        assert positions == [(1,), (2,)]

    def test_without_the_right_to_seal_it_says_so_and_waits(self, trail: Trail) -> None:
        """A login that may not take the sealer's role on is not an error of the web process."""
        with trail.connect() as connection:
            connection.execute("DO $$ BEGIN CREATE ROLE no_sealer LOGIN; EXCEPTION WHEN OTHERS THEN NULL; END $$")
        url = psycopg.conninfo.make_conninfo(trail.url, user="no_sealer")
        parts = psycopg.conninfo.conninfo_to_dict(url)
        place = f"postgresql://no_sealer@/{parts['dbname']}?host={parts['host']}&port={parts.get('port', 5432)}"
        sealer, over = Sealer(place, lambda: trail.key), threading.Event()
        thread = threading.Thread(target=sealer.run, args=(over,))
        thread.start()
        until(lambda: sealer._said)
        over.set()
        thread.join()
        assert trail.waiting() == 0


class TestKey:
    """The key that seals are signed with."""

    def test_is_made_once_for_its_owner_alone(self, tmp_path: Path) -> None:
        """In the data folder, where the setting names none."""
        key = keys.sealing_key(None, tmp_path)
        file = tmp_path / keys.FILE
        assert file.stat().st_mode & 0o777 == 0o600
        assert keys.sealing_key(None, tmp_path).private_bytes_raw() == key.private_bytes_raw()
        assert [one.name for one in tmp_path.iterdir()] == [keys.FILE]

    def test_of_many_that_make_it_at_once_all_have_the_same(self, tmp_path: Path) -> None:
        """One of them made it."""
        made: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: made.append(keys.sealing_key(None, tmp_path).private_bytes_raw()))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8
        assert len(set(made)) == 1

    def test_may_be_named_as_pem_or_as_bytes(self, tmp_path: Path, trail: Trail) -> None:
        """And must then be there, and be one."""
        raw, pem, other = tmp_path / "raw", tmp_path / "pem", tmp_path / "other"
        raw.write_bytes(trail.key.private_bytes_raw())
        pem.write_bytes(trail.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        other.write_text("something else")
        for file in (raw, pem):
            assert keys.sealing_key(file, tmp_path).private_bytes_raw() == trail.key.private_bytes_raw()
        with pytest.raises(keys.NoSealKey, match="is not a private key"):
            keys.sealing_key(other, tmp_path)
        with pytest.raises(keys.NoSealKey, match="does not exist"):
            keys.sealing_key(tmp_path / "absent", tmp_path)
        with pytest.raises(keys.NoSealKey, match="stays as it is"):
            keys.make_key(raw)


class TestMetrics:
    """AUD-06: how far sealing is behind is known to whoever watches."""

    @staticmethod
    def gauges(trail: Trail) -> dict[str, float]:
        """What `/metrics` says of the trail."""
        lines = Caller(trail.app).get("/metrics").text.splitlines()
        found = (line.split() for line in lines if line.startswith(("medical_audit", "medical_database")))
        return {name: float(value) for name, value in found}

    def test_what_waits_is_counted_and_since_when(self, trail: Trail) -> None:
        """Of all organisations, sealed or not; asking leaves no event."""
        assert self.gauges(trail)["medical_audit_sealed_position"] == 0
        with trail.connect() as connection:
            for _ in range(3):
                connection.execute(INSERT, [uuid4()])
            connection.execute("UPDATE audit_event SET occurred_at = now() - interval '1 minute'")
            waits = self.gauges(trail)
            assert waits["medical_audit_unsealed_events"] == 3
            assert 60 <= waits["medical_audit_unsealed_oldest_seconds"] < 600
            trail.seal()
        assert self.gauges(trail) == {
            "medical_database_answers": 1,
            "medical_audit_unsealed_events": 0,
            "medical_audit_unsealed_oldest_seconds": 0,
            "medical_audit_sealed_position": 3,
        }

    def test_a_database_that_is_away_is_said_so(self, app: Flask) -> None:
        """And all else is answered."""
        lost = create_app({"database_url": "postgresql://u@127.0.0.1:1/x", "secret_key": SECRET, "mode": Mode.TEST})
        answer = Caller(lost).get("/metrics")
        assert answer.status_code == 200
        assert "medical_database_answers 0.0" in answer.text
        assert "medical_audit" not in answer.text
