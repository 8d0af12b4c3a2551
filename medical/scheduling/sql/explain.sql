-- What lies at a time in a clinician's diary: one row for each thing that may stand in the way.
-- Nothing here tells whose visit it is; the id of the appointment is for who may see it.
WITH
kind AS MATERIALIZED (
    SELECT id, grid_minutes,
           CAST(:start AS timestamptz) AS starts,
           CAST(:start AS timestamptz) + make_interval(mins => minutes) AS ends,
           CAST(:start AS timestamptz) - make_interval(mins => buffer_before_minutes) AS claims_from,
           CAST(:start AS timestamptz) + make_interval(mins => minutes + buffer_after_minutes) AS claims_until
    FROM appointment_type
    CROSS JOIN LATERAL (SELECT coalesce(CAST(:minutes AS int), duration_minutes) AS minutes) AS lasting
    WHERE id = :appointment_type_id AND organization_id = :organization_id
),
-- Windows that the visit touches, for visits of this type or not, and whether it starts on their grid.
touched AS (
    SELECT CASE WHEN appointment_type_ids IS NULL OR kind.id = ANY(appointment_type_ids)
                THEN 'open' ELSE 'other_types' END AS what,
           source_id, start_at, end_at, CAST(NULL AS text) AS name,
           extract(epoch FROM kind.starts - grid_at)::bigint % (60 * kind.grid_minutes) = 0
           AND start_at <= kind.starts AS on_grid
    FROM open_window CROSS JOIN kind
    WHERE clinician_id = :clinician_id AND start_at < kind.ends AND end_at > kind.starts
      AND start_at > kind.starts - interval '26 hours'
      AND (CAST(:location_id AS uuid) IS NULL OR location_id = :location_id)
),
-- Time off that it touches.
time_off AS (
    SELECT 'time_off', e.id, e.start_at, e.end_at, e.reason, CAST(NULL AS boolean)
    FROM availability_exception e CROSS JOIN kind
    WHERE e.clinician_id = :clinician_id AND e.kind = 'closed' AND e.start_at < kind.ends AND e.end_at > kind.starts
),
-- Weekly hours that would be open then, were it not for a holiday of their site.
holidays AS (
    SELECT DISTINCT ON (h.day) 'holiday', h.id, at.opens, at.closes, h.name, CAST(NULL AS boolean)
    FROM availability a CROSS JOIN kind
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (location_id, day) id, day, name, closed FROM holiday
        WHERE location_id = a.location_id
          AND day BETWEEN (kind.starts AT TIME ZONE a.time_zone)::date - 1 AND (kind.ends AT TIME ZONE a.time_zone)::date
        ORDER BY location_id, day, origin = 'own' DESC
    ) AS h
    CROSS JOIN LATERAL (
        SELECT local_to_instant(h.day + a.start_time, a.time_zone) AS opens,
               local_to_instant(h.day + (a.end_time <= a.start_time)::int + a.end_time, a.time_zone) AS closes
    ) AS at
    WHERE a.clinician_id = :clinician_id AND h.closed AND extract(isodow FROM h.day) = ANY(a.weekdays)
      AND floor((h.day - a.first_week_on) / 7.0)::int % a.every_weeks = 0
      AND h.day BETWEEN coalesce(a.valid_from, '-infinity') AND coalesce(a.valid_until, 'infinity')
      AND at.opens < kind.ends AND at.closes > kind.starts
      AND (CAST(:location_id AS uuid) IS NULL OR a.location_id = :location_id)
    ORDER BY h.day
),
-- Claims on the clinician's time that meet the visit, or its buffers.
claims AS (
    SELECT CASE WHEN b.hold_id IS NOT NULL THEN 'held'
                WHEN b.start_at < kind.ends AND b.end_at > kind.starts THEN 'booked' ELSE 'buffer' END,
           b.appointment_id, b.start_at, b.end_at, CAST(NULL AS text), CAST(NULL AS boolean)
    FROM allocation b CROSS JOIN kind
    WHERE b.bookable_id = :clinician_id AND (b.expires_at IS NULL OR b.expires_at > :now)
      AND b.start_at < kind.claims_until AND b.end_at > kind.claims_from
      AND b.start_at > kind.claims_from - interval '36 hours'
      -- A group that has a seat is not in its own way.
      AND NOT EXISTS (
          SELECT FROM group_session s
          WHERE s.id = b.session_id AND s.appointment_type_id = kind.id AND s.start_at = kind.starts
            AND s.end_at = kind.ends AND s.booked < s.capacity)
)
SELECT * FROM touched
UNION ALL SELECT * FROM time_off
UNION ALL SELECT * FROM holidays
UNION ALL SELECT * FROM claims
ORDER BY start_at, source_id
