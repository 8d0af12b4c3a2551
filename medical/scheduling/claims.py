"""Claims on people's time. PostgreSQL decides every race for them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import delete, text

from medical.platform import clock
from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.scheduling.errors import NotBookable, PatientBusy, SlotTaken
from medical.scheduling.models import Allocation

LANES = 3
"""So many a clinician can have beside the one whose time it is."""

LOCK = "pg_advisory_xact_lock(hashtextextended(bookable_id::text, 0))"

CLAIM = text(
    f"""
    INSERT INTO allocation
        (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id, hold_id, expires_at)
    SELECT id, :organization_id, bookable_id, kind, :start, :end, CAST(:appointment_id AS uuid),
           CAST(:hold_id AS uuid), CAST(:expires_at AS timestamptz)
    FROM (
        SELECT given.*, {LOCK} FROM (
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:bookables AS uuid[]), CAST(:kinds AS text[]))
                AS given (id, bookable_id, kind)
            ORDER BY bookable_id
        ) AS given OFFSET 0
    ) AS locked
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
    """
    WITH expired AS (
        SELECT h.id FROM hold h
        WHERE h.id IN (
            SELECT hold_id FROM allocation
            WHERE bookable_id = ANY(CAST(:bookables AS uuid[])) AND expires_at <= :now
              AND start_at < :end AND end_at > :start AND start_at > CAST(:start AS timestamptz) - interval '48 hours'
        )
        ORDER BY h.id FOR UPDATE
    )
    DELETE FROM hold h USING expired WHERE h.id = expired.id RETURNING h.id
    """
)
"""Remove expired holds that stand on this time, with their claims; in one order, so that two who do it never cross."""

BUSY = text(
    """
    SELECT DISTINCT bookable_id FROM allocation
    WHERE bookable_id = ANY(CAST(:bookables AS uuid[])) AND (expires_at IS NULL OR expires_at > :now)
      AND start_at < :end AND end_at > :start AND start_at > CAST(:start AS timestamptz) - interval '48 hours'
      AND (appointment_id IS NULL OR appointment_id IS DISTINCT FROM CAST(:but AS uuid))
    """
)
TIMES = text(
    """
    SELECT start_at, end_at FROM allocation
    WHERE bookable_id = :bookable_id AND (expires_at IS NULL OR expires_at > :now)
      AND start_at < :end AND end_at > :start AND start_at > CAST(:start AS timestamptz) - interval '48 hours'
      AND (appointment_id IS NULL OR appointment_id IS DISTINCT FROM CAST(:but AS uuid))
    """
)


def claim(
    *, appointment_id: UUID, clinician_id: UUID, patient_id: UUID, start: datetime, end: datetime
) -> list[type[NotBookable]]:
    """Claim clinician's and patient's time for the appointment; what stands in the way, or nothing.

    Where something does, the transaction must be rolled back.
    """
    wanted = {clinician_id: "clinician", patient_id: "patient"}
    missing = _take(wanted, start, end, appointment_id=appointment_id)
    return _reasons(missing, clinician_id)


def claim_beside(
    *, appointment_id: UUID, clinician_id: UUID, patient_id: UUID, start: datetime, end: datetime
) -> tuple[list[type[NotBookable]], bool]:
    """Claim as ``claim`` does, or else a lane beside what the clinician has; whether it came to that."""
    wanted = {clinician_id: "clinician", patient_id: "patient"}
    missing = _take(wanted, start, end, appointment_id=appointment_id)
    if clinician_id not in missing:
        return _reasons(missing, clinician_id), False
    for lane in range(LANES):
        beside = {uuid5(clinician_id, f"lane {lane}"): "overbook"}
        if not _take(beside, start, end, appointment_id=appointment_id):
            return _reasons(missing - {clinician_id}, clinician_id), True
    return _reasons(missing, clinician_id), False


def claim_for_hold(
    *, hold_id: UUID, clinician_id: UUID, start: datetime, end: datetime, expires_at: datetime
) -> list[type[NotBookable]]:
    """Claim a clinician's time until the hold expires; what stands in the way, or nothing."""
    missing = _take({clinician_id: "clinician"}, start, end, hold_id=hold_id, expires_at=expires_at)
    return _reasons(missing, clinician_id)


def move(
    *,
    appointment_id: UUID,
    old_clinician_id: UUID,
    clinician_id: UUID,
    patient_id: UUID,
    start: datetime,
    end: datetime,
) -> list[type[NotBookable]]:
    """Claim another time for the appointment in place of its present one, which it may overlap.

    What stands in the way, or nothing; where something does, the transaction must be rolled back.
    """
    lock({old_clinician_id, clinician_id, patient_id})
    release(appointment_id)
    return claim(appointment_id=appointment_id, clinician_id=clinician_id, patient_id=patient_id, start=start, end=end)


def lock(bookables: set[UUID]) -> None:
    """Wait for one's turn at the time of all of these, which lasts until the transaction ends."""
    db.session.execute(LOCK_ALL, {"bookables": sorted(bookables)})


def release(appointment_id: UUID) -> None:
    """Give the appointment's time free."""
    db.session.execute(delete(Allocation).where(Allocation.appointment_id == appointment_id))


def busy(
    *, clinician_id: UUID, patient_id: UUID | None, start: datetime, end: datetime, but: UUID | None = None
) -> list[type[NotBookable]]:
    """Whose time is claimed, but for the appointment ``but``; so it is for the moment only."""
    people = [one for one in (clinician_id, patient_id) if one]
    values = {"bookables": people, "start": start, "end": end, "now": clock.now(), "but": but}
    return _reasons(set(db.session.scalars(BUSY, values)), clinician_id)


def times_of(
    bookable_id: UUID, start: datetime, end: datetime, but: UUID | None
) -> Sequence[tuple[datetime, datetime]]:
    """The claims on somebody's time that touch [start, end), but for the appointment ``but``."""
    values = {"bookable_id": bookable_id, "start": start, "end": end, "now": clock.now(), "but": but}
    return [(row.start_at, row.end_at) for row in db.session.execute(TIMES, values)]


def _take(
    wanted: Mapping[UUID, str],
    start: datetime,
    end: datetime,
    *,
    appointment_id: UUID | None = None,
    hold_id: UUID | None = None,
    expires_at: datetime | None = None,
) -> set[UUID]:
    """Claim the time of all; whose could not be had. An expired hold is in nobody's way."""
    span: dict[str, object] = {"start": start, "end": end}
    claim = span | {"appointment_id": appointment_id, "hold_id": hold_id, "expires_at": expires_at}
    missing = _insert(wanted, claim)
    if missing and db.session.scalars(EXPIRE, span | {"bookables": sorted(missing), "now": clock.now()}).all():
        missing = _insert({one: wanted[one] for one in missing}, claim)
    return missing


def _insert(wanted: Mapping[UUID, str], values: Mapping[str, object]) -> set[UUID]:
    columns = {"ids": [new_id() for _ in wanted], "bookables": [*wanted], "kinds": [*wanted.values()]}
    got = db.session.scalars(CLAIM, {"organization_id": scope_organization(), **values, **columns})
    return wanted.keys() - set(got)


def _reasons(missing: set[UUID], clinician_id: UUID) -> list[type[NotBookable]]:
    return [SlotTaken if one == clinician_id else PatientBusy for one in missing]
