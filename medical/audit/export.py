"""The trail as lines of JSON (docs/audit-format.md), in one snapshot, streamed: for the verifier, and for keeping."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import count
from typing import Any

import psycopg

from medical.platform.waiting import conninfo

ROLE = "medical_verifier"
AT_ONCE = 500
"""Rows that are in memory together."""


def _iso(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


SEARCH = f"""
    CASE WHEN s.digest IS NOT NULL THEN json_build_object(
        'digest', encode(s.digest, 'hex'), 'occurred_at', {_iso("s.occurred_at")},
        'organization_id', s.organization_id, 'salt', encode(s.salt, 'hex'), 'content', s.content) END
"""
COLUMNS = f"""
    json_build_object(
        'id', e.id, 'organization_id', e.organization_id, 'occurred_at', {_iso("e.occurred_at")},
        'actor_id', e.actor_id, 'actor_roles', e.actor_roles, 'session_id', e.session_id,
        'on_behalf_of', e.on_behalf_of, 'client_id', e.client_id, 'purpose', e.purpose,
        'action', e.action, 'outcome', e.outcome, 'code', e.code, 'request_id', e.request_id, 'source', e.source,
        'patient_id', e.patient_id, 'entity_type', e.entity_type, 'entity_id', e.entity_id,
        'search_digest', encode(e.search_digest, 'hex'), 'format', e.format, 'digest', encode(e.digest, 'hex'),
        'transaction_id', e.transaction_id::text)
"""
EVENT = f"({COLUMNS}::jsonb || jsonb_build_object('search', {SEARCH}))"
EVENTS = """
    audit_event e LEFT JOIN audit_search s ON s.digest = e.search_digest AND s.occurred_at = e.occurred_at
"""
LINK = f"""
        'kind', 'link', 'position', l.position, 'event_id', l.event_id, 'occurred_at', {_iso("l.occurred_at")},
        'transaction_id', l.transaction_id::text, 'digest', encode(l.digest, 'hex'), 'hash', encode(l.hash, 'hex')
"""
LINKS = f"""
    SELECT l.position, json_build_object({LINK},
        'events', coalesce((SELECT json_agg({EVENT} ORDER BY e.occurred_at) FROM {EVENTS} WHERE e.id = l.event_id),
                           '[]'))::text
    FROM audit_link l
"""  # noqa: S608  # made of the constants above, as is all that follows
LINKS_TO_ARCHIVE = f"""
    SELECT t.*, l.month FROM ({LINKS}) AS t (position, line) JOIN LATERAL (
        SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date AS month
        FROM audit_link WHERE position = t.position
    ) AS l ON l.month < %(before)s AND NOT EXISTS (SELECT FROM audit_archive a WHERE a.month = l.month)
    ORDER BY t.position
"""  # noqa: S608
SEALS = f"""
    SELECT last_position, json_build_object(
        'kind', 'seal', 'number', number, 'first_position', first_position, 'last_position', last_position,
        'head', encode(head, 'hex'), 'root', encode(root, 'hex'), 'horizon', horizon::text,
        'sealed_at', {_iso("sealed_at")}, 'key_id', key_id, 'signature', encode(signature, 'hex'))::text
    FROM audit_seal
"""  # noqa: S608
LOOSE_EVENTS = f"""
    SELECT (jsonb_build_object('kind', 'event') || {EVENT})::text FROM {EVENTS}
    WHERE NOT EXISTS (SELECT FROM audit_link l WHERE l.event_id = e.id)
    ORDER BY e.transaction_id, e.id
"""  # noqa: S608
LOOSE_SEARCHES = f"""
    SELECT (jsonb_build_object('kind', 'search') || ({SEARCH})::jsonb)::text FROM audit_search s
    WHERE NOT EXISTS (SELECT FROM audit_event e WHERE e.search_digest = s.digest AND e.occurred_at = s.occurred_at)
    ORDER BY s.occurred_at, s.digest
"""  # noqa: S608
OWN_LINKS = f"""
    SELECT json_build_object({LINK},
        'events', (SELECT json_agg({COLUMNS} ORDER BY e.occurred_at) FROM audit_event e WHERE e.id = l.event_id))::text
    FROM audit_link l WHERE l.position BETWEEN %(first)s AND %(last)s ORDER BY l.position
"""  # noqa: S608
"""As the application's role sees it: events of its organisation, and null for all others."""
ARCHIVES = """
    SELECT json_build_object('kind', 'archive', 'month', month, 'events', events, 'digest', encode(digest, 'hex'),
                             'archived_at', archived_at)::text
    FROM audit_archive ORDER BY month
"""
HEADER = f"""
    SELECT json_build_object('kind', 'trail', 'format', 1, 'exported_at', {_iso("clock_timestamp()")})::text
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """A connection as the verifier's role that sees one state of the trail, and changes nothing."""
    options = f"-c role={ROLE} -c timezone=UTC -c default_transaction_read_only=on"
    with psycopg.connect(conninfo(url), connect_timeout=5, application_name="medical-audit", options=options) as made:
        made.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield made


def dump(connection: Connection) -> Iterator[str]:
    """The whole trail, line by line."""
    counts = {"links": 0, "seals": 0, "events": 0, "searches": 0}
    yield _only(connection, HEADER)
    yield from _stream(connection, ARCHIVES)
    for kind, line in _chain(connection):
        counts[kind] += 1
        yield line
    for kind, query in (("events", LOOSE_EVENTS), ("searches", LOOSE_SEARCHES)):
        for line in _stream(connection, query):
            counts[kind] += 1
            yield line
    yield _end(counts)


def dump_before(connection: Connection, before: date) -> Iterator[tuple[str, date | None]]:
    """The links of all months before ``before`` that are not archived yet, with their events, as a file of its own.

    Each line comes with the month of its link, if it is one.
    """
    links = 0
    yield _only(connection, HEADER), None
    for _, line, month in _rows(connection, LINKS_TO_ARCHIVE, {"before": before}):
        links += 1
        yield line, month
    yield _end({"links": links, "seals": 0, "events": 0, "searches": 0}), None


LAST_SEAL = f"{SEALS} ORDER BY number DESC LIMIT 1"
SEALS_IN_ORDER, LINKS_IN_ORDER = f"{SEALS} ORDER BY number", f"{LINKS} ORDER BY l.position"


def last_seal(connection: Connection) -> str | None:
    """The last seal, which is a checkpoint; None where nothing was sealed yet."""
    row = connection.execute(LAST_SEAL).fetchone()
    return str(row[1]) if row else None


def _chain(connection: Connection) -> Iterator[tuple[str, str]]:
    """Links in their order, each seal behind the last of its links."""
    seals = _rows(connection, SEALS_IN_ORDER)
    seal = next(seals, None)
    for position, line in _rows(connection, LINKS_IN_ORDER):
        while seal and seal[0] < position:
            yield "seals", seal[1]
            seal = next(seals, None)
        yield "links", line
    while seal:
        yield "seals", seal[1]
        seal = next(seals, None)


_names = count()


def _rows(connection: Connection, query: str, values: Any = None) -> Iterator[tuple[Any, ...]]:
    """The rows of a query as they are needed."""
    with connection.cursor(f"audit_{next(_names)}") as cursor:
        cursor.itersize = AT_ONCE
        yield from cursor.execute(query, values)


def _stream(connection: Connection, query: str) -> Iterator[str]:
    return (row[0] for row in _rows(connection, query))


def _only(connection: Connection, query: str) -> str:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    return str(row[0])


def _end(counts: dict[str, int]) -> str:
    members = ", ".join(f'"{name}": {number}' for name, number in counts.items())
    return f'{{"kind": "end", {members}}}'
