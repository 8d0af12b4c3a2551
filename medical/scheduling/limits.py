"""How many appointments of a type a clinician takes on one day, and a patient has ahead.

Who books holds the locks on clinician's and patient's time, so two cannot both take the last place.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from medical.platform import clock
from medical.platform.db import db, unattended
from medical.scheduling.errors import DayFull, NotBookable, PatientLimit
from medical.scheduling.models import Appointment, AppointmentType
from medical.scheduling.policy import RELEASING

FULL = text(
    """
    SELECT given.n::int
    FROM unnest(CAST(:clinician_ids AS uuid[]), CAST(:starts AS timestamptz[]))
        WITH ORDINALITY AS given (clinician_id, start_at, n)
    JOIN clinician c ON c.id = given.clinician_id
    WHERE :most <= (
        SELECT count(*) FROM appointment a
        WHERE a.clinician_id = given.clinician_id AND a.appointment_type_id = :appointment_type_id
          AND a.id <> ALL(CAST(:but AS uuid[])) AND a.status <> ALL(CAST(:off AS text[]))
          AND a.start_at > given.start_at - interval '26 hours' AND a.start_at < given.start_at + interval '26 hours'
          AND (a.start_at AT TIME ZONE c.time_zone)::date = (given.start_at AT TIME ZONE c.time_zone)::date
    )
    """
)
"""Which of these times lie on days, in the clinician's zone, that have enough of the type."""

AHEAD = text(
    """
    SELECT count(*) FROM appointment a
    WHERE a.patient_id = :patient_id AND a.appointment_type_id = :appointment_type_id
      AND a.id <> ALL(CAST(:but AS uuid[])) AND a.end_at > :now
      AND a.status IN ('requested', 'booked', 'arrived', 'checked_in', 'in_progress')
    """
)


def reached(
    kind: AppointmentType, appointment: Appointment, clinician_id: UUID, start: datetime
) -> Sequence[type[NotBookable]]:
    """The limits of the type that the appointment would go beyond there; whoever asks, all appointments count."""
    found: list[type[NotBookable]] = []
    if full_days(kind, [(clinician_id, start)], [appointment.id]):
        found.append(DayFull)
    if left_to(kind, appointment.patient_id, [appointment.id]) == 0:
        found.append(PatientLimit)
    return found


def left_to(kind: AppointmentType, patient_id: UUID, but: Collection[UUID]) -> int | None:
    """How many more of the type the patient may have ahead, the appointments ``but`` aside; None: any number."""
    if kind.max_per_patient is None:
        return None
    values = {"patient_id": patient_id, "appointment_type_id": kind.id, "but": list(but), "now": clock.now()}
    with unattended():
        return max(0, kind.max_per_patient - int(db.session.scalars(AHEAD, values).one()))


def full_days(kind: AppointmentType, times: Sequence[tuple[UUID, datetime]], but: Collection[UUID]) -> set[int]:
    """The places in ``times`` of those on days on which the clinician takes no more of the type, ``but`` aside."""
    if kind.max_per_day is None or not times:
        return set()
    values = {
        "clinician_ids": [clinician_id for clinician_id, _ in times],
        "starts": [start for _, start in times],
        "most": kind.max_per_day,
        "appointment_type_id": kind.id,
        "but": list(but),
        "off": sorted(RELEASING),
    }
    with unattended():
        return {n - 1 for n in db.session.scalars(FULL, values)}
