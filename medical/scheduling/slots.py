"""Free times, worked out by PostgreSQL in one statement, whatever the days and clinicians.

For each clinician and place: the openings of the days, made instants from local wall time, less the
claims on the clinician's time, as multiranges; the starts on each opening's grid that fit in what is
left. A booking asks with the same openings whether its time lies within them.

Everything about one clinician is LATERAL to their row, read by index. Joins of the same steps over
all clinicians at once were planned as nested loops of CTEs: over two minutes for a thousand.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from medical.platform.db import db, scope_organization

ASKED = """
    kind AS MATERIALIZED (
        SELECT id, make_interval(mins => duration_minutes) AS duration, grid_minutes, horizon_days,
               :now + make_interval(mins => min_notice_minutes) AS earliest
        FROM appointment_type WHERE id = :appointment_type_id AND organization_id = :organization_id
    ), chosen AS MATERIALIZED (
        SELECT c.id, c.time_zone,
               (CAST(:now AS timestamptz) AT TIME ZONE c.time_zone)::date + kind.horizon_days AS last_day
        FROM clinician c JOIN users u ON u.id = c.id CROSS JOIN kind
        WHERE c.organization_id = :organization_id
          AND u.active AND EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.role = 'clinician')
          AND (CAST(:clinician_ids AS uuid[]) IS NULL OR c.id = ANY(CAST(:clinician_ids AS uuid[])))
          AND (CAST(:specialty AS text) IS NULL OR lower(c.specialty) = lower(CAST(:specialty AS text)))
    )
"""
"""The appointment type, and whose openings count."""

OPENING = """
    opening AS MATERIALIZED (
        SELECT location_id, time_zone, opens, closes
        FROM (
            SELECT a.location_id, a.time_zone, first + n AS day,
                   local_to_instant(first + n + a.start_time, a.time_zone) AS opens,
                   local_to_instant(
                       first + n + (a.end_time <= a.start_time)::int + a.end_time, a.time_zone
                   ) AS closes
            FROM availability a
            CROSS JOIN LATERAL (
                SELECT greatest(a.valid_from, ((span.lo - interval '26 hours') AT TIME ZONE a.time_zone)::date),
                       least(a.valid_until, ((span.hi + kind.duration) AT TIME ZONE a.time_zone)::date)
            ) AS days (first, last)
            CROSS JOIN LATERAL generate_series(0, last - first) AS n
            WHERE a.clinician_id = chosen.id
              AND (a.appointment_type_ids IS NULL OR kind.id = ANY(a.appointment_type_ids))
              AND (CAST(:location_id AS uuid) IS NULL OR a.location_id = :location_id)
              AND extract(isodow FROM first + n) = ANY(a.weekdays)
              AND floor((first + n - a.first_week_on) / 7.0)::int % a.every_weeks = 0
            OFFSET 0
        ) AS window_of_day
        WHERE closes > opens AND closes > span.lo AND opens < span.hi + kind.duration
          AND ((opens AT TIME ZONE time_zone)::date = day
               OR local_to_instant(day, time_zone) < local_to_instant(day + 1, time_zone))
    )
"""
"""A clinician's openings that touch [lo, hi + duration), worked out for each day they could begin on.

They could begin 26 hours before: an opening lasts until the end of the next day at most, and no day
is longer than 25 hours. A day that the zone skips altogether opens nothing. OFFSET 0 has the
instants worked out once instead of at each mention.
"""

SEARCH = text(
    f"""
    WITH {ASKED}, asked AS MATERIALIZED (
        SELECT greatest(CAST(:start AS timestamptz), kind.earliest, CAST(:after AS timestamptz)) AS lo,
               least(:until, :now + make_interval(hours => 24 * (horizon_days + 2))) AS hi
        FROM kind
    ), span AS (
        SELECT lo + make_interval(hours => 24 * (2 ^ step - 1)::int) AS lo,
               least(hi, lo + make_interval(hours => 24 * (2 ^ (step + 1) - 1)::int)) AS hi
        FROM asked CROSS JOIN generate_series(0, 9) AS step
        WHERE lo + make_interval(hours => 24 * (2 ^ step - 1)::int) < hi
        ORDER BY lo
    )
    SELECT found.clinician_id, found.location_id, found.starts, found.starts + kind.duration AS ends
    FROM kind LEFT JOIN LATERAL (
        SELECT span.lo, chosen.id AS clinician_id, slot.location_id, slot.starts
        FROM span CROSS JOIN chosen CROSS JOIN LATERAL (
            WITH {OPENING}, free AS MATERIALIZED (
                SELECT location_id, range_agg(tstzrange(opens, closes)) - coalesce(
                    (SELECT range_agg(during) FROM allocation
                     WHERE bookable_id = chosen.id AND (expires_at IS NULL OR expires_at > :now)
                       AND start_at < span.hi + kind.duration AND end_at > span.lo
                       AND start_at > span.lo - interval '24 hours'),
                    '{{}}') AS during
                FROM opening GROUP BY location_id
            )
            SELECT DISTINCT ON (starts) o.location_id, starts
            FROM opening o JOIN free f ON f.location_id IS NOT DISTINCT FROM o.location_id
            CROSS JOIN LATERAL generate_series(
                greatest(0, ceil(extract(epoch FROM span.lo - o.opens) / (60 * kind.grid_minutes))::int),
                ceil(extract(epoch FROM least(span.hi, o.closes) - o.opens) / (60 * kind.grid_minutes))::int - 1
            ) AS step
            CROSS JOIN LATERAL (SELECT o.opens + make_interval(mins => step * kind.grid_minutes)) AS at (starts)
            WHERE (starts AT TIME ZONE chosen.time_zone)::date <= chosen.last_day
              AND tstzrange(starts, starts + kind.duration) <@ f.during
            ORDER BY starts, o.location_id
        ) AS slot
        WHERE CAST(:after AS timestamptz) IS NULL OR (slot.starts, chosen.id) > (:after, :after_clinician_id)
        ORDER BY span.lo, slot.starts, chosen.id
        LIMIT :limit
    ) AS found ON true
    ORDER BY found.starts, found.clinician_id
    """  # noqa: S608 - made of constants only
)
"""No row at all: no such type. One row of nulls: nothing free.

The time is searched in spans of 1, 2, 4, 8 … days, until the page is full: PostgreSQL sorts span by
span (incremental sort) and works the later ones out only when it needs them.
"""

PLACE = text(
    f"""
    WITH {ASKED}, span AS (SELECT CAST(:start AS timestamptz) AS lo, CAST(:start AS timestamptz) AS hi)
    SELECT chosen.id AS clinician_id, kind.earliest, span.lo + kind.duration AS ends,
           (span.lo AT TIME ZONE chosen.time_zone)::date > chosen.last_day AS beyond_horizon,
           cover.location_id, cover.time_zone, span.lo AT TIME ZONE cover.time_zone AS local_start
    FROM kind CROSS JOIN span LEFT JOIN chosen ON true
    LEFT JOIN LATERAL (
        WITH {OPENING}
        SELECT location_id, min(time_zone) FILTER (WHERE opens <= span.lo AND span.lo < closes) AS time_zone
        FROM opening GROUP BY location_id
        HAVING range_agg(tstzrange(opens, closes)) @> tstzrange(span.lo, span.lo + kind.duration)
        ORDER BY location_id LIMIT 1
    ) AS cover ON true
    """  # noqa: S608 - made of constants only
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


def place(
    *, appointment_type_id: UUID, clinician_id: UUID, location_id: UUID | None, start: datetime, now: datetime
) -> Row[Any] | None:
    """What a booking must know of its time: one row; None without such a type.

    ``clinician_id`` is null without such a clinician, ``time_zone`` outside their openings.
    """
    values = _values(appointment_type_id, start, start, [clinician_id], None, location_id, now)
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
        "organization_id": scope_organization(),
        "appointment_type_id": appointment_type_id,
        "start": start,
        "until": until,
        "clinician_ids": None if clinician_ids is None else list(clinician_ids),
        "specialty": specialty,
        "location_id": location_id,
        "now": now,
    }
