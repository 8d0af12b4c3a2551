"""Free times, worked out by PostgreSQL in one statement, whatever the days and clinicians.

For each clinician and place: the openings of the days, made instants from local wall time, less the
claims on the clinician's time, as multiranges; the starts on each opening's grid that fit in what is
left. A booking asks with the same openings whether its time lies within them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from medical.platform.db import db

OPENINGS = """
    kind AS (
        SELECT id, make_interval(mins => duration_minutes) AS duration, grid_minutes,
               :now + make_interval(mins => min_notice_minutes) AS earliest, horizon_days
        FROM appointment_type WHERE id = :appointment_type_id
    ), chosen AS (
        SELECT c.id, c.time_zone,
               (CAST(:now AS timestamptz) AT TIME ZONE c.time_zone)::date + kind.horizon_days AS last_day
        FROM clinician c JOIN users u ON u.id = c.id CROSS JOIN kind
        WHERE u.active
          AND (CAST(:clinician_ids AS uuid[]) IS NULL OR c.id = ANY(CAST(:clinician_ids AS uuid[])))
          AND (CAST(:specialty AS text) IS NULL OR lower(c.specialty) = lower(CAST(:specialty AS text)))
    ), rule AS (
        SELECT a.*,
               greatest(a.valid_from, (CAST(:start AS timestamptz) AT TIME ZONE a.time_zone)::date - 1) AS first,
               least(a.valid_until, ((:until + kind.duration) AT TIME ZONE a.time_zone)::date) AS last
        FROM availability a CROSS JOIN kind
        WHERE a.clinician_id IN (SELECT id FROM chosen)
          AND (a.appointment_type_ids IS NULL OR kind.id = ANY(a.appointment_type_ids))
          AND (CAST(:location_id AS uuid) IS NULL OR a.location_id = :location_id)
    ), window_of_day AS (
        SELECT rule.clinician_id, rule.location_id, rule.time_zone, rule.first + n AS day,
               local_to_instant(rule.first + n + rule.start_time, rule.time_zone) AS opens,
               local_to_instant(
                   rule.first + n + (rule.end_time <= rule.start_time)::int + rule.end_time, rule.time_zone
               ) AS closes
        FROM rule CROSS JOIN generate_series(0, rule.last - rule.first) AS n
        WHERE extract(isodow FROM rule.first + n) = ANY(rule.weekdays)
          AND floor((rule.first + n - rule.first_week_on) / 7.0)::int % rule.every_weeks = 0
    ), opening AS (
        SELECT w.clinician_id, w.location_id, w.time_zone, w.opens, w.closes
        FROM window_of_day w CROSS JOIN kind
        WHERE w.closes > w.opens AND w.closes > :start AND w.opens < :until + kind.duration
          AND (w.opens AT TIME ZONE w.time_zone)::date = w.day
    )
"""
"""Openings that touch [start, until + duration). A day that the zone skips altogether opens nothing."""

SEARCH = text(
    f"""
    WITH {OPENINGS}, taken AS (
        SELECT a.bookable_id AS clinician_id, range_agg(a.during) AS during
        FROM allocation a CROSS JOIN kind
        WHERE a.bookable_id IN (SELECT id FROM chosen)
          AND a.start_at < :until + kind.duration AND a.start_at > CAST(:start AS timestamptz) - interval '1 day'
          AND a.end_at > :start
        GROUP BY a.bookable_id
    ), free AS (
        SELECT o.clinician_id, o.location_id,
               range_agg(tstzrange(o.opens, o.closes)) - coalesce(t.during, '{{}}') AS during
        FROM opening o LEFT JOIN taken t USING (clinician_id)
        GROUP BY o.clinician_id, o.location_id, t.during
    ), slot AS (
        SELECT DISTINCT ON (starts, clinician_id) o.clinician_id, o.location_id, starts,
               starts + kind.duration AS ends
        FROM kind CROSS JOIN opening o
        JOIN chosen c ON c.id = o.clinician_id
        JOIN free f ON f.clinician_id = o.clinician_id AND f.location_id IS NOT DISTINCT FROM o.location_id
        CROSS JOIN LATERAL generate_series(
            greatest(0, ceil(extract(epoch FROM greatest(:start, kind.earliest) - o.opens)
                             / (60 * kind.grid_minutes))::int),
            ceil(extract(epoch FROM least(:until, o.closes) - o.opens) / (60 * kind.grid_minutes))::int
        ) AS step
        CROSS JOIN LATERAL (SELECT o.opens + make_interval(mins => step * kind.grid_minutes) AS starts) AS at
        WHERE starts >= greatest(:start, kind.earliest) AND starts < :until
          AND (starts AT TIME ZONE c.time_zone)::date <= c.last_day
          AND tstzrange(starts, starts + kind.duration) <@ f.during
          AND (CAST(:after AS timestamptz) IS NULL OR (starts, o.clinician_id) > (:after, :after_clinician_id))
        ORDER BY starts, clinician_id, o.location_id
        LIMIT :limit
    )
    SELECT slot.clinician_id, slot.location_id, slot.starts, slot.ends
    FROM kind LEFT JOIN slot ON true
    ORDER BY slot.starts, slot.clinician_id
    """  # noqa: S608 - made of constants of this module
)
"""No row at all: no such type. One row of nulls: nothing free."""

PLACE = text(
    f"""
    WITH {OPENINGS}
    SELECT chosen.id AS clinician_id, kind.earliest, CAST(:start AS timestamptz) + kind.duration AS ends,
           (CAST(:start AS timestamptz) AT TIME ZONE chosen.time_zone)::date > chosen.last_day AS beyond_horizon,
           cover.location_id, cover.time_zone,
           CAST(:start AS timestamptz) AT TIME ZONE cover.time_zone AS local_start
    FROM kind LEFT JOIN chosen ON true
    LEFT JOIN LATERAL (
        SELECT o.location_id, min(o.time_zone) AS time_zone FROM opening o
        GROUP BY o.location_id
        HAVING range_agg(tstzrange(o.opens, o.closes))
               @> tstzrange(:start, CAST(:start AS timestamptz) + kind.duration)
        ORDER BY o.location_id LIMIT 1
    ) AS cover ON true
    """  # noqa: S608 - made of constants of this module
)
"""Where and by which wall clock a time lies within the clinician's openings."""

_IDS = bindparam("clinician_ids", type_=ARRAY(Uuid))
SEARCH, PLACE = SEARCH.bindparams(_IDS), PLACE.bindparams(_IDS)


class Slot(Struct, frozen=True):
    """A free time with a clinician."""

    clinician_id: UUID
    location_id: UUID | None
    start: datetime
    end: datetime


def search(
    *,
    appointment_type_id: UUID,
    start: datetime,
    until: datetime,
    clinician_ids: Sequence[UUID] | None,
    specialty: str | None,
    location_id: UUID | None,
    now: datetime,
    limit: int,
    after: tuple[datetime, UUID] | None,
) -> Sequence[Slot] | None:
    """Free times that start in [start, until), by start and clinician; None without such a type.

    One more than ``limit`` when more follow.
    """
    values = _values(appointment_type_id, start, until, clinician_ids, specialty, location_id, now) | {
        "limit": limit + 1,
        "after": after[0] if after else None,
        "after_clinician_id": after[1] if after else None,
    }
    rows = db.session.execute(SEARCH, values).all()
    if not rows:
        return None
    return [Slot(*row) for row in rows if row.starts is not None]


def place(*, appointment_type_id: UUID, clinician_id: UUID, start: datetime, now: datetime) -> Row[Any] | None:
    """What a booking must know of its time: one row; None without such a type.

    ``clinician_id`` is null without such a clinician, ``time_zone`` outside their openings.
    """
    values = _values(appointment_type_id, start, start, [clinician_id], None, None, now)
    return db.session.execute(PLACE, values).first()


def _values(
    appointment_type_id: UUID,
    start: datetime,
    until: datetime,
    clinician_ids: Sequence[UUID] | None,
    specialty: str | None,
    location_id: UUID | None,
    now: datetime,
) -> dict[str, Any]:
    return {
        "appointment_type_id": appointment_type_id,
        "start": start,
        "until": until,
        "clinician_ids": None if clinician_ids is None else list(clinician_ids),
        "specialty": specialty,
        "location_id": location_id,
        "now": now,
    }
