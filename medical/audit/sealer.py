"""Sealing the trail: every event gets its place in a chain, every batch of places a signature.

One sealer works at a time, elected by an advisory lock; others wait for it to be gone. Events commit in another
order than they were written, so that "later than the last one seen" would miss some. Instead each transaction's
number is compared with the oldest one that still runs: what is below is complete, and is sealed in the order of
transactions. See docs/audit-format.md for what is written.

It knows psycopg and cryptography only: it also runs in the small process that supervises the web processes.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from medical.platform.logging import get_logger
from medical.platform.refusal import Refused
from medical.platform.waiting import cause, conninfo

ROLE = "medical_sealer"
ADVISORY_LOCK = 0x7365616C
"""The word "seal"."""

PERIOD_SECONDS = 0.1
WAIT_SECONDS = 1.0
"""How often one that waits asks whether it is its turn."""
LOST_SECONDS = 2.0
REFUSED_SECONDS = 30.0
MONTHS_PERIOD = timedelta(hours=1)

BATCH = 5_000
"""Events that one seal covers at most."""

SESSION_SETTINGS = {
    "role": ROLE,
    "timezone": "UTC",
    "lock_timeout": "2s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "30s",
    "enable_seqscan": "off",
}
"""A sealer that stands still loses its connection, and with it its turn, after half a minute.

It never wants a whole table; but a plan that was made while one was empty would read it whole ever after.
"""

LAST = """
    SELECT number, last_position, head, horizon::text::bigint,
           horizon > pg_snapshot_xmax(pg_current_snapshot()) AS renumbered
    FROM audit_seal ORDER BY number DESC LIMIT 1
"""
"""The end of the chain; and whether its transactions have numbers that this server has yet to give.

That is so where the trail was restored from a dump into another server.
"""

UNSEALED = """
    SELECT e.id, e.occurred_at, e.transaction_id::text::bigint, e.digest,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    FROM audit_event e
    WHERE e.transaction_id >= %(horizon)s::text::xid8
      AND e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
      AND NOT EXISTS (SELECT FROM audit_link l WHERE l.event_id = e.id OFFSET 0)
    ORDER BY e.transaction_id, e.id LIMIT %(limit)s
"""
"""Events of transactions that are over, and have no place yet.

The horizon keeps it cheap: a seal that took all there was sets it to the oldest transaction that ran then. Whatever
committed before has a smaller number, was seen and is sealed; whatever commits later has that number or a larger one.
So nothing below the horizon is ever unsealed, and the index shows at once what lies above. OFFSET 0 keeps PostgreSQL
from a join: it would read all links there are, in the order of events, to find that the newest have none.
"""

UNSEALED_AFTER_RESTORE = """
    SELECT e.id, e.occurred_at, e.transaction_id::text::bigint, e.digest,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    FROM audit_event e
    WHERE (e.transaction_id < pg_snapshot_xmin(pg_current_snapshot())
           OR e.transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))
      AND NOT EXISTS (SELECT FROM audit_link l WHERE l.event_id = e.id)
    ORDER BY e.transaction_id, e.id LIMIT %(limit)s
"""
"""The same without a horizon, which means nothing on this server: once, until a seal of its own has set one.

A row with a number that this server has yet to give comes from the other one, and is complete.
"""

ADD_LINKS = """
    INSERT INTO audit_link (position, event_id, occurred_at, transaction_id, digest, hash)
    SELECT t.position, t.event_id, t.occurred_at, t.transaction_id::text::xid8, t.digest, t.hash
    FROM unnest(%(positions)s::bigint[], %(ids)s::uuid[], %(times)s::timestamptz[], %(transactions)s::bigint[],
                %(digests)s::bytea[], %(hashes)s::bytea[])
         AS t (position, event_id, occurred_at, transaction_id, digest, hash)
"""
ADD_SEAL = """
    INSERT INTO audit_seal (number, first_position, last_position, head, root, horizon, sealed_at, key_id, signature)
    VALUES (%(number)s, %(first)s, %(last)s, %(head)s, %(root)s, %(horizon)s::text::xid8, %(sealed_at)s, %(key_id)s,
            %(signature)s)
"""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GENESIS = bytes(32)

log = get_logger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Event:
    """As much of an event as the sealer may see."""

    id: UUID
    occurred_at: datetime
    transaction_id: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Where the chain ends."""

    number: int = 0
    position: int = 0
    head: bytes = GENESIS
    horizon: int = 0
    renumbered: bool = False


def link_hash(before: bytes, position: int, event: Event) -> bytes:
    """The hash of the link that puts the event at this place of the chain."""
    content = [
        b"medical-audit-link-1\n",
        before,
        position.to_bytes(8, "big"),
        event.id.bytes,
        _time(event.occurred_at),
        event.transaction_id.to_bytes(8, "big"),
        event.digest,
    ]
    return sha256(b"".join(content)).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over hashed leaves (RFC 6962, section 2.1)."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + merkle_root(leaves[:split]) + merkle_root(leaves[split:])).digest()


def _leaf(position: int, event: Event) -> bytes:
    return sha256(b"\x00" + position.to_bytes(8, "big") + event.id.bytes + event.digest).digest()


def _time(instant: datetime) -> bytes:
    return ((instant - EPOCH) // timedelta(microseconds=1)).to_bytes(8, "big", signed=True)


def seal_once(connection: Connection, key: Ed25519PrivateKey, limit: int = BATCH) -> int:
    """Seal what is complete and waits, in one transaction; how many events that were. For the elected one only."""
    with connection.transaction():
        row = connection.execute(LAST).fetchone()
        end = End(*row) if row else End()
        query = UNSEALED_AFTER_RESTORE if end.renumbered else UNSEALED
        rows = connection.execute(query, {"horizon": end.horizon, "limit": limit + 1}).fetchall()
        if not rows:
            return 0
        events = [Event(*row[:-1]) for row in rows[:limit]]
        horizon = rows[0][-1]
        if len(rows) > limit:  # more wait, of the last transaction that is sealed now, or of later ones
            horizon = end.horizon if end.renumbered else events[-1].transaction_id
        _add(connection, key, end, events, horizon)
    return len(events)


def _add(connection: Connection, key: Ed25519PrivateKey, end: End, events: list[Event], horizon: int) -> None:
    positions = [end.position + step for step in range(1, len(events) + 1)]
    hashes, head = [], end.head
    for position, event in zip(positions, events, strict=True):
        head = link_hash(head, position, event)
        hashes.append(head)
    links = {
        "positions": positions,
        "ids": [event.id for event in events],
        "times": [event.occurred_at for event in events],
        "transactions": [event.transaction_id for event in events],
        "digests": [event.digest for event in events],
        "hashes": hashes,
    }
    connection.execute(ADD_LINKS, links)
    root = merkle_root([_leaf(position, event) for position, event in zip(positions, events, strict=True)])
    seal = {
        "number": end.number + 1,
        "first": positions[0],
        "last": positions[-1],
        "head": head,
        "root": root,
        "horizon": horizon,
        "sealed_at": datetime.now(UTC),
    }
    public = key.public_key().public_bytes_raw()
    signed = _signed(seal) + public
    connection.execute(ADD_SEAL, seal | {"key_id": public.hex(), "signature": key.sign(signed)})


def _signed(seal: dict[str, Any]) -> bytes:
    """What the signature is of, but for the key at its end."""
    numbers = (seal[name].to_bytes(8, "big") for name in ("number", "first", "last"))
    content = [*numbers, seal["head"], seal["root"], seal["horizon"].to_bytes(8, "big"), _time(seal["sealed_at"])]
    return b"medical-audit-seal-1\n" + b"".join(content)


class Sealer:
    """Seals while it runs and it is its turn; outlives the database."""

    def __init__(self, url: str, load_key: Callable[[], Ed25519PrivateKey]) -> None:
        """``load_key`` is called when it is its turn: who may not seal needs no key."""
        self.url, self.load_key = url, load_key
        self._said: str | None = None

    def run(self, over: threading.Event) -> None:
        """Seal until ``over``; what goes wrong is said once, and tried again."""
        while not over.is_set():
            try:
                self._work(over)
            except psycopg.Error as error:
                over.wait(self._pause_after(error))
            except (Refused, OSError) as error:
                self._say("sealing_without_key", str(error))
                over.wait(REFUSED_SECONDS)

    def _work(self, over: threading.Event) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
        with psycopg.connect(
            conninfo(self.url),
            autocommit=True,
            connect_timeout=5,
            application_name="medical-sealer",
            options=options,
            keepalives_idle=10,
            keepalives_interval=3,
            keepalives_count=3,
        ) as connection:
            if self._is_elected(connection, over):
                key = self.load_key()
                log.info("sealing", public_key=key.public_key().public_bytes_raw().hex())
                self._said = None
                self._seal(connection, key, over)

    @staticmethod
    def _is_elected(connection: Connection, over: threading.Event) -> bool:
        """Wait for one's turn, which lasts as long as the connection; whether it came before ``over``."""
        while not over.is_set():
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK]).fetchone()
            if row == (True,):
                return True
            over.wait(WAIT_SECONDS)
        return False

    def _seal(self, connection: Connection, key: Ed25519PrivateKey, over: threading.Event) -> None:
        prepared_at = datetime.min.replace(tzinfo=UTC)
        while not over.is_set():
            if datetime.now(UTC) - prepared_at >= MONTHS_PERIOD:
                prepared_at = datetime.now(UTC)
                self._prepare_months(connection)
            if seal_once(connection, key) < BATCH:
                over.wait(PERIOD_SECONDS)

    @staticmethod
    def _prepare_months(connection: Connection) -> None:
        """Make the tables of the coming months; what cannot be done now is done in an hour, two months ahead."""
        with suppress(psycopg.errors.LockNotAvailable):
            connection.execute("SELECT prepare_audit_months()")

    def _pause_after(self, error: psycopg.Error) -> float:
        """Say what went wrong, unless that was said last; how long to wait for it to change."""
        refused = isinstance(error, psycopg.errors.InsufficientPrivilege) or "permission denied" in str(error)
        if refused:
            self._say("sealing_elsewhere", "this login may not seal: `medical worker` has to", level="info")
            return REFUSED_SECONDS
        self._say("sealing_interrupted", f"{type(error).__name__} {error.sqlstate}" if error.sqlstate else cause(error))
        return LOST_SECONDS

    def _say(self, event: str, reason: str, *, level: str = "warning") -> None:
        if reason != self._said:
            self._said = reason
            getattr(log, level)(event, reason=reason)
