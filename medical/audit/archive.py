"""Putting old months of the trail into a file, so that the database stays bounded; their links stay, and prove them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from medical.audit import export
from medical.audit.verifier import Record, Verification
from medical.platform.refusal import Refused
from medical.platform.waiting import connected, conninfo

LOCK = "5s"
"""How long requests that use the trail may hold up the removal of a month, and it them."""

MONTHS = """
    SELECT to_date(c.relname, '"event_"YYYY_MM') AS month
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'audit_event'::regclass AND c.relname ~ '^event_[0-9]{4}_[0-9]{2}$'
      AND to_date(c.relname, '"event_"YYYY_MM') < %s
    ORDER BY 1
"""
MAKE_MONTHS = """
    SELECT add_audit_month(month::date)
    FROM (SELECT DISTINCT date_trunc('month', occurred_at AT TIME ZONE 'UTC') FROM audit_month.event_rest
          WHERE occurred_at < %s) AS t (month)
"""
"""Of events that came before their month was made."""


class NotArchived(Refused):
    """Nothing was archived, nothing was removed; the text says why."""


class Archive:
    """Months before some month, as a file and as what is removed."""

    def __init__(self, url: str, before: date) -> None:
        """``url`` is the owner's. Raises ``NotArchived`` for months that are not over."""
        if before > datetime.now(UTC).date().replace(day=1):
            raise NotArchived(
                "the present month is not over, and later ones have not begun: choose an earlier --before"
            )
        self._url, self._before = url, before

    def make(self, file: Path, public_keys: tuple[str, ...]) -> Counter[date]:
        """Write the file, then remove what is in it; how many events of each month that were.

        Raises ``NotArchived``, also where the trail is not whole.
        """
        with connected(self._url) as owner:
            owner.execute(MAKE_MONTHS, [self._before])
            months = [month for (month,) in owner.execute(MONTHS, [self._before])]
        if not months:
            raise NotArchived(f"there is no month before {self._before:%Y-%m}")
        with export.snapshot(self._url) as connection:
            trail = (json.loads(line) for line in export.dump(connection))
            self._ensure_whole(trail, public_keys)
            counts, digest = self._write(connection, file)
        with psycopg.connect(conninfo(self._url), options=f"-c lock_timeout={LOCK}") as owner:
            for month in months:
                self._remove(owner, month, counts[month], digest)
        return counts

    @staticmethod
    def _ensure_whole(records: Iterator[Record], public_keys: tuple[str, ...]) -> None:
        problem = next(Verification(public_keys).problems(records), None)
        if problem:
            raise NotArchived(f"the trail is not whole ({problem}): see `medical audit verify`")

    def _write(self, connection: export.Connection, file: Path) -> tuple[Counter[date], bytes]:
        """Write the months' links with their events; events of each month, and the digest of the file."""
        counts: Counter[date] = Counter()
        digest = sha256()
        with private(file) as output:
            for line, month in export.dump_before(connection, self._before):
                raw = f"{line}\n".encode()
                digest.update(raw)
                output.write(raw)
                if month:
                    counts[month] += 1
            output.flush()
            os.fsync(output.fileno())
        return counts, digest.digest()

    @staticmethod
    def _remove(owner: psycopg.Connection[Any], month: date, count: int, digest: bytes) -> None:
        """Detach and drop a month, if it holds just the events that are in the file."""
        table = sql.Identifier("audit_month", f"event_{month:%Y_%m}")
        owner.execute(sql.SQL("LOCK TABLE audit_event, {} IN ACCESS EXCLUSIVE MODE").format(table))
        row = owner.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        if row != (count,):
            raise NotArchived(f"{month:%Y-%m} has events that are not sealed yet: try again when they are")
        values = {"month": month, "events": count, "digest": digest}
        owner.execute(
            "INSERT INTO audit_archive (month, events, digest) VALUES (%(month)s, %(events)s, %(digest)s)", values
        )
        for kind in ("event", "search"):
            part = sql.Identifier("audit_month", f"{kind}_{month:%Y_%m}")
            parent = sql.Identifier(f"audit_{kind}")
            owner.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, part))
            owner.execute(sql.SQL("DROP TABLE {}").format(part))


def private(file: Path) -> Any:
    """A new file that its owner alone reads. Raises ``NotArchived`` where there is one."""
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as error:
        raise NotArchived(f"{file} exists and stays as it is: choose another --out") from error
