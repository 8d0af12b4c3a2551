"""Claims on people's time. PostgreSQL decides every race for them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, text

from medical.platform.db import db, scope_organization
from medical.platform.ids import new_id
from medical.scheduling.errors import PatientBusy, SlotTaken
from medical.scheduling.models import Allocation

LOCK = "pg_advisory_xact_lock(hashtextextended(bookable_id::text, 0))"

CLAIM = text(
    f"""
    INSERT INTO allocation (id, organization_id, bookable_id, kind, start_at, end_at, appointment_id)
    SELECT id, :organization_id, bookable_id, kind, :start, :end, :appointment_id
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
decides. They last until the transaction ends.
"""

LOCK_ALL = text(
    f"SELECT {LOCK} FROM (SELECT unnest(CAST(:bookables AS uuid[])) AS bookable_id ORDER BY 1) AS given"  # noqa: S608 - as above
)


def claim(*, appointment_id: UUID, clinician_id: UUID, patient_id: UUID, start: datetime, end: datetime) -> None:
    """Claim clinician's and patient's time for the appointment.

    Raises ``SlotTaken`` or ``PatientBusy``; then the transaction must be rolled back.
    """
    values = {
        "organization_id": scope_organization(),
        "ids": [new_id(), new_id()],
        "bookables": [clinician_id, patient_id],
        "kinds": ["clinician", "patient"],
        "start": start,
        "end": end,
        "appointment_id": appointment_id,
    }
    got = set(db.session.scalars(CLAIM, values))
    if clinician_id not in got:
        raise SlotTaken
    if patient_id not in got:
        raise PatientBusy


def release(appointment_id: UUID) -> None:
    """Give the appointment's time free."""
    db.session.execute(delete(Allocation).where(Allocation.appointment_id == appointment_id))


def move(
    *,
    appointment_id: UUID,
    old_clinician_id: UUID,
    clinician_id: UUID,
    patient_id: UUID,
    start: datetime,
    end: datetime,
) -> None:
    """Claim another time for the appointment in place of its present one; may overlap itself.

    Raises ``SlotTaken`` or ``PatientBusy``; then the transaction must be rolled back.
    """
    everybody: Sequence[UUID] = sorted({old_clinician_id, clinician_id, patient_id})
    db.session.execute(LOCK_ALL, {"bookables": everybody})
    release(appointment_id)
    claim(appointment_id=appointment_id, clinician_id=clinician_id, patient_id=patient_id, start=start, end=end)
