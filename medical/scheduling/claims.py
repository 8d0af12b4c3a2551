"""Claims on people's time. PostgreSQL decides every race for them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import delete, text

from medical.platform import clock
from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.scheduling.errors import DeviceTaken, NotBookable, PatientBusy, RoomTaken, SlotTaken
from medical.scheduling.models import Allocation

LANES = 3
"""So many a clinician can have beside the one whose time it is."""

LOCK = "pg_advisory_xact_lock(hashtextextended(bookable_id::text, 0))"

WANTED = """
    unnest(CAST(:ids AS uuid[]), CAST(:bookables AS uuid[]), CAST(:kinds AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
        AS given (id, bookable_id, kind, start_at, end_at)
"""
CLAIM = text(
    f"""
    INSERT INTO allocation
        (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id, session_id, hold_id, expires_at)
    SELECT id, :organization_id, bookable_id, kind, start_at, end_at, CAST(:appointment_id AS uuid),
           CAST(:session_id AS uuid), CAST(:hold_id AS uuid), CAST(:expires_at AS timestamptz)
    FROM (SELECT given.*, {LOCK} FROM (SELECT * FROM {WANTED} ORDER BY bookable_id) AS given OFFSET 0) AS locked
    ORDER BY bookable_id
    ON CONFLICT DO NOTHING
    RETURNING bookable_id
    """  # noqa: S608 - made of constants of this module
)
"""Claim the time of all, in one order, or learn whose is taken.

The locks let requests for one person's time queue instead of deadlock; the exclusion constraint
decides. They last until the transaction ends, or until it is rolled back to before them.
"""

LOCK_ALL = text(
    f"SELECT {LOCK} FROM (SELECT unnest(CAST(:bookables AS uuid[])) AS bookable_id ORDER BY 1) AS given"  # noqa: S608 - as above
)

EXPIRE = text(
    f"""
    WITH expired AS (
        SELECT h.id FROM hold h
        WHERE h.id IN (
            SELECT a.hold_id FROM {WANTED} JOIN allocation a ON a.bookable_id = given.bookable_id
            WHERE a.expires_at <= :now AND a.start_at < given.end_at AND a.end_at > given.start_at
              AND a.start_at > given.start_at - interval '36 hours'
        )
        ORDER BY h.id FOR UPDATE
    )
    DELETE FROM hold h USING expired WHERE h.id = expired.id RETURNING h.id
    """  # noqa: S608 - as above
)
"""Remove expired holds that stand on this time, with their claims; in one order, so that two who do it never cross."""

BUSY = text(
    f"""
    SELECT DISTINCT given.kind FROM {WANTED} JOIN allocation a ON a.bookable_id = given.bookable_id
    WHERE given.kind <> 'pool' AND (a.expires_at IS NULL OR a.expires_at > :now)
      AND a.start_at < given.end_at AND a.end_at > given.start_at
      AND a.start_at > given.start_at - interval '36 hours'
      AND coalesce(a.appointment_id, a.hold_id, a.session_id) IS DISTINCT FROM CAST(:but AS uuid)
    """  # noqa: S608 - as above
)
WANTED_EACH = """
    unnest(CAST(:ids AS uuid[]), CAST(:bookables AS uuid[]), CAST(:kinds AS text[]),
           CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]), CAST(:appointments AS uuid[]))
        AS given (id, bookable_id, kind, start_at, end_at, appointment_id)
"""
CLAIM_EACH = text(
    f"""
    INSERT INTO allocation (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id)
    SELECT id, :organization_id, bookable_id, kind, start_at, end_at, appointment_id
    FROM (SELECT given.*, {LOCK}
          FROM (SELECT * FROM {WANTED_EACH} ORDER BY bookable_id, start_at) AS given OFFSET 0) AS locked
    ORDER BY bookable_id, start_at
    ON CONFLICT DO NOTHING
    RETURNING id
    """  # noqa: S608 - as above
)
"""The same for several appointments at once."""

BUSY_EACH = text(
    f"""
    SELECT DISTINCT given.appointment_id, given.kind
    FROM {WANTED_EACH} JOIN allocation a ON a.bookable_id = given.bookable_id
    WHERE given.kind <> 'pool' AND (a.expires_at IS NULL OR a.expires_at > :now)
      AND a.start_at < given.end_at AND a.end_at > given.start_at
      AND a.start_at > given.start_at - interval '36 hours'
    """  # noqa: S608 - as above
)
TIMES = text(
    """
    SELECT bookable_id, appointment_id, start_at, end_at FROM allocation
    WHERE bookable_id = ANY(CAST(:bookables AS uuid[])) AND (expires_at IS NULL OR expires_at > :now)
      AND start_at < :end AND end_at > :start AND start_at > CAST(:start AS timestamptz) - interval '36 hours'
    """
)

REFUSALS: Mapping[str, type[NotBookable]] = {
    "clinician": SlotTaken,
    "patient": PatientBusy,
    "room": RoomTaken,
    "device": DeviceTaken,
    "pool": DeviceTaken,
    "overbook": SlotTaken,
}
"""What is said when a claim of this kind meets another."""


class Claim(NamedTuple):
    """Whose time, of which kind they are, from when to when."""

    bookable_id: UUID
    kind: str
    start: datetime
    end: datetime


class ClaimOf(NamedTuple):
    """A claim, and the appointment it is for."""

    appointment_id: UUID
    claim: Claim


def claim(appointment_id: UUID, wanted: Sequence[Claim]) -> list[type[NotBookable]]:
    """Claim all of this time for the appointment; what stands in the way, or nothing.

    Where something does, the transaction must be rolled back.
    """
    return _reasons(_take(wanted, appointment_id=appointment_id))


def claim_beside(appointment_id: UUID, wanted: Sequence[Claim]) -> tuple[list[type[NotBookable]], bool]:
    """Claim as ``claim`` does, or else a lane beside what the clinician has; whether it came to that."""
    missing = _take(wanted, appointment_id=appointment_id)
    taken = [one for one in missing if one.kind == "clinician"]
    for one in taken:
        for lane in range(LANES):
            beside = one._replace(bookable_id=uuid5(one.bookable_id, f"lane {lane}"), kind="overbook")
            if not _take([beside], appointment_id=appointment_id):
                return _reasons(other for other in missing if other is not one), True
    return _reasons(missing), False


def claim_for_hold(hold_id: UUID, wanted: Sequence[Claim], expires_at: datetime) -> list[type[NotBookable]]:
    """Claim all of this time until the hold expires; what stands in the way, or nothing."""
    return _reasons(_take(wanted, hold_id=hold_id, expires_at=expires_at))


def claim_for_session(session_id: UUID, wanted: Sequence[Claim]) -> list[type[NotBookable]]:
    """Claim all of this time for a group; what stands in the way, or nothing."""
    return _reasons(_take(wanted, session_id=session_id))


def move(appointment_id: UUID, wanted: Sequence[Claim]) -> list[type[NotBookable]]:
    """Claim other time for the appointment in place of its present one, which it may overlap.

    What stands in the way, or nothing; where something does, the transaction must be rolled back.
    """
    release(appointment_id)
    return claim(appointment_id, wanted)


def lock(people: Iterable[UUID]) -> None:
    """Wait for one's turn at the time of these people, which lasts until the transaction ends.

    Whoever wants anybody's time does this first, and looks at hours and claims after: what it then sees holds.
    Rooms and devices come later, with the claim; who waits for those has the people already.
    """
    db.session.execute(LOCK_ALL, {"bookables": sorted(set(people))})


def release(*appointment_ids: UUID) -> None:
    """Give the appointments' time free."""
    db.session.execute(delete(Allocation).where(Allocation.appointment_id.in_(appointment_ids)))


def claim_each(wanted: Sequence[ClaimOf]) -> Sequence[ClaimOf]:
    """Claim time for several appointments; those that could not be had, for which the transaction must be undone."""
    missing = _insert_each(wanted)
    lost = [one.claim for one in missing]
    if lost and db.session.scalars(EXPIRE, _columns(lost) | {"now": clock.now()}).all():
        missing = _insert_each(missing)
    return missing


def busy_each(wanted: Sequence[ClaimOf]) -> Mapping[UUID, list[type[NotBookable]]]:
    """Whose time is claimed already, by the appointments that want it."""
    found: dict[UUID, list[type[NotBookable]]] = {}
    for appointment_id, kind in db.session.execute(BUSY_EACH, _columns_each(wanted) | {"now": clock.now()}):
        found.setdefault(appointment_id, []).append(REFUSALS[kind])
    return found


def release_session(session_id: UUID) -> None:
    """Give the time of a group free."""
    db.session.execute(delete(Allocation).where(Allocation.session_id == session_id))


def busy(wanted: Sequence[Claim], but: UUID | None = None) -> list[type[NotBookable]]:
    """Whose time is claimed, but for what the appointment or hold ``but`` has."""
    values = _columns(wanted) | {"now": clock.now(), "but": but}
    return [REFUSALS[kind] for kind in db.session.scalars(BUSY, values)]


class Claimed(NamedTuple):
    """Whose time an appointment has, or a hold or a group, from when to when."""

    bookable_id: UUID
    appointment_id: UUID | None
    start: datetime
    end: datetime


def times_of(bookables: Iterable[UUID], start: datetime, end: datetime) -> Sequence[Claimed]:
    """The claims on these people's time that touch [start, end)."""
    values = {"bookables": list(bookables), "start": start, "end": end, "now": clock.now()}
    return [Claimed(*row) for row in db.session.execute(TIMES, values)]


def _take(
    wanted: Sequence[Claim],
    *,
    appointment_id: UUID | None = None,
    session_id: UUID | None = None,
    hold_id: UUID | None = None,
    expires_at: datetime | None = None,
) -> Sequence[Claim]:
    """Claim all; those that could not be had. An expired hold is in nobody's way."""
    claimant = {
        "organization_id": scope_organization(),
        "appointment_id": appointment_id,
        "session_id": session_id,
        "hold_id": hold_id,
        "expires_at": expires_at,
    }
    missing = _insert(wanted, claimant)
    if missing and db.session.scalars(EXPIRE, _columns(missing) | {"now": clock.now()}).all():
        missing = _insert(missing, claimant)
    return missing


def _insert(wanted: Sequence[Claim], claimant: Mapping[str, object]) -> Sequence[Claim]:
    got = set(db.session.scalars(CLAIM, {**_columns(wanted), **claimant}))
    return [one for one in wanted if one.bookable_id not in got]


def _insert_each(wanted: Sequence[ClaimOf]) -> Sequence[ClaimOf]:
    columns = _columns_each(wanted) | {"organization_id": scope_organization()}
    got = set(db.session.scalars(CLAIM_EACH, columns))
    return [one for one, row_id in zip(wanted, columns["ids"], strict=True) if row_id not in got]


def _columns_each(wanted: Sequence[ClaimOf]) -> dict[str, Any]:
    return _columns([one.claim for one in wanted]) | {"appointments": [one.appointment_id for one in wanted]}


def _columns(wanted: Sequence[Claim]) -> dict[str, object]:
    return {
        "ids": [new_id() for _ in wanted],
        "bookables": [one.bookable_id for one in wanted],
        "kinds": [one.kind for one in wanted],
        "starts": [one.start for one in wanted],
        "ends": [one.end for one in wanted],
    }


def _reasons(missing: Iterable[Claim]) -> list[type[NotBookable]]:
    return [REFUSALS[one.kind] for one in missing]
