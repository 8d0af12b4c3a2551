"""Claims on people's time. PostgreSQL decides every race for them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, text

from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.scheduling.errors import DeviceTaken, PatientBusy, RoomTaken, SlotTaken
from medical.scheduling.models import Allocation

LOCK = "pg_advisory_xact_lock(hashtextextended(bookable_id::text, 0))"

CLAIM = text(
    f"""
    INSERT INTO allocation (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id)
    SELECT id, :organization_id, bookable_id, kind, start_at, end_at, :appointment_id
    FROM (
        SELECT given.*, {LOCK} FROM (
            SELECT * FROM unnest(
                CAST(:ids AS uuid[]), CAST(:bookables AS uuid[]), CAST(:kinds AS text[]),
                CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])
            ) AS given (id, bookable_id, kind, start_at, end_at)
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
decides. They last until the transaction ends.
"""

LOCK_ALL = text(
    f"SELECT {LOCK} FROM (SELECT unnest(CAST(:bookables AS uuid[])) AS bookable_id ORDER BY 1) AS given"  # noqa: S608 - as above
)


class Claim(NamedTuple):
    """Whose time, of which kind they are, from when to when."""

    bookable_id: UUID
    kind: str
    start: datetime
    end: datetime


REFUSALS = {"clinician": SlotTaken, "patient": PatientBusy, "room": RoomTaken, "device": DeviceTaken}
"""What is said when a claim meets another; of several the first."""


def claim(appointment_id: UUID, wanted: Sequence[Claim]) -> None:
    """Claim all of this time for the appointment.

    Raises ``SlotTaken``, ``PatientBusy``, ``RoomTaken`` or ``DeviceTaken``; then the transaction must be rolled back.
    """
    values = {
        "organization_id": scope_organization(),
        "ids": [new_id() for _ in wanted],
        "bookables": [one.bookable_id for one in wanted],
        "kinds": [one.kind for one in wanted],
        "starts": [one.start for one in wanted],
        "ends": [one.end for one in wanted],
        "appointment_id": appointment_id,
    }
    got = set(db.session.scalars(CLAIM, values))
    refused = {one.kind for one in wanted if one.bookable_id not in got}
    for kind, refusal in REFUSALS.items():
        if kind in refused:
            raise refusal


def release(appointment_id: UUID) -> None:
    """Give the appointment's time free."""
    db.session.execute(delete(Allocation).where(Allocation.appointment_id == appointment_id))


def move(appointment_id: UUID, wanted: Sequence[Claim], *, old_clinician_id: UUID) -> None:
    """Claim other time for the appointment in place of its present one; may overlap itself.

    Raises what ``claim`` raises; then the transaction must be rolled back.
    """
    everybody: Sequence[UUID] = sorted({old_clinician_id, *(one.bookable_id for one in wanted)})
    db.session.execute(LOCK_ALL, {"bookables": everybody})
    release(appointment_id)
    claim(appointment_id, wanted)
