"""Which of several clinicians gets the next appointment."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text

from medical.platform.db import db, unattended
from medical.scheduling.policy import RELEASING

WINDOW = timedelta(days=14)
"""So far before and after the time in question, what is booked counts."""

ORDER = text(
    """
    SELECT c.id
    FROM unnest(CAST(:clinician_ids AS uuid[])) AS c (id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(extract(epoch FROM a.end_at - a.start_at)), 0) AS seconds, max(a.created_at) AS last
        FROM appointment a
        WHERE a.clinician_id = c.id AND a.start_at >= :since AND a.start_at < :until
          AND a.status <> ALL(CAST(:off AS text[]))
    ) AS booked
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(cardinality(v.weekdays) / v.every_weeks::numeric * extract(epoch FROM
            v.end_time - v.start_time + CASE WHEN v.end_time <= v.start_time THEN interval '24 hours'
                                             ELSE interval '0' END)), 0) AS seconds
        FROM availability v WHERE v.clinician_id = c.id
    ) AS weekly
    CROSS JOIN LATERAL (
        SELECT max(a.start_at) AS at FROM appointment a
        WHERE a.patient_id = :patient_id AND a.clinician_id = c.id AND a.status <> ALL(CAST(:off AS text[]))
    ) AS met
    ORDER BY met.at DESC NULLS LAST, booked.seconds / greatest(weekly.seconds, 1), booked.last NULLS FIRST, c.id
    """
)
"""First whom the patient met last; then who has the least booked for the hours they work, then who waited longest."""


def in_order(clinician_ids: Sequence[UUID], patient_id: UUID, start: datetime) -> Sequence[UUID]:
    """The clinicians, whoever has the best claim on the patient first; all appointments count, whoever asks."""
    values = {
        "clinician_ids": list(clinician_ids),
        "patient_id": patient_id,
        "since": start - WINDOW,
        "until": start + WINDOW,
        "off": sorted(RELEASING),
    }
    with unattended():
        return db.session.scalars(ORDER, values).all()
