-- Free times, in one statement, whatever the days and clinicians.
-- No row at all: no such type. One row of nulls: nothing free.
WITH
-- The appointment type. What it needs beside the clinician: a room is called '', a device by its kind.
kind AS MATERIALIZED (
    SELECT id, grid_minutes, horizon_days, group_capacity,
           make_interval(mins => minutes) AS duration,
           make_interval(mins => buffer_before_minutes) AS before,
           make_interval(mins => buffer_after_minutes) AS after,
           CASE WHEN needs_room THEN ARRAY[''] ELSE '{}' END || needs_device_kinds AS needs,
           :now + make_interval(mins => min_notice_minutes) AS earliest
    FROM appointment_type
    CROSS JOIN LATERAL (SELECT coalesce(CAST(:minutes AS int), duration_minutes) AS minutes) AS lasting
    WHERE id = :appointment_type_id AND organization_id = :organization_id
),
-- Whose windows count: active clinicians, and the last day of each, counted where they are.
chosen AS MATERIALIZED (
    SELECT c.id, c.time_zone,
           (CAST(:now AS timestamptz) AT TIME ZONE c.time_zone)::date + kind.horizon_days AS last_day
    FROM clinician c JOIN users u ON u.id = c.id CROSS JOIN kind
    WHERE c.organization_id = :organization_id
      AND u.active AND EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.role = 'clinician')
      AND (CAST(:clinician_ids AS uuid[]) IS NULL OR c.id = ANY(CAST(:clinician_ids AS uuid[])))
      AND (CAST(:specialty AS text) IS NULL OR lower(c.specialty) = lower(CAST(:specialty AS text)))
),
-- The time asked for, less what is too soon or was on a page before.
asked AS MATERIALIZED (
    SELECT greatest(CAST(:start AS timestamptz), kind.earliest, CAST(:after AS timestamptz)) AS lo,
           least(:until, :now + make_interval(hours => 24 * (horizon_days + 2))) AS hi
    FROM kind
),
-- It is searched in spans of 1, 2, 4, 8 … days until the page is full: PostgreSQL sorts span by span
-- (incremental sort) and works the later ones out only when it needs them.
span AS (
    SELECT lo + make_interval(hours => 24 * (2 ^ step - 1)::int) AS lo,
           least(hi, lo + make_interval(hours => 24 * (2 ^ (step + 1) - 1)::int)) AS hi
    FROM asked CROSS JOIN generate_series(0, 9) AS step
    WHERE lo + make_interval(hours => 24 * (2 ^ step - 1)::int) < hi
    ORDER BY lo
),
-- The sites where those chosen have hours; asked only by visits that need something there.
site AS MATERIALIZED (
    SELECT location_id FROM availability WHERE clinician_id IN (SELECT id FROM chosen)
    UNION
    SELECT location_id FROM availability_exception WHERE kind = 'open' AND clinician_id IN (SELECT id FROM chosen)
)
SELECT found.clinician_id, found.location_id, found.starts, found.starts + kind.duration AS ends
FROM kind LEFT JOIN LATERAL (
    SELECT span.lo, chosen.id AS clinician_id, slot.location_id, slot.starts
    FROM span
    -- For each site, when a visit could start so that each thing it needs is free: one of its rooms, and
    -- one device of each kind. A claim on a thing keeps starts away that would touch it, buffers included.
    CROSS JOIN LATERAL (
        SELECT array_agg(location_id) AS location_ids, array_agg(starts) AS starts
        FROM (
            SELECT site.location_id, range_intersect_agg(one.starts) AS starts
            FROM unnest(kind.needs) AS need CROSS JOIN site
            CROSS JOIN LATERAL (
                SELECT coalesce(range_agg(free.starts), '{}') AS starts
                FROM (
                    SELECT id, 1 AS capacity FROM room WHERE need = '' AND location_id = site.location_id
                    UNION ALL
                    SELECT id, capacity FROM device WHERE kind = need AND location_id = site.location_id
                ) AS thing
                CROSS JOIN LATERAL (
                    SELECT tstzmultirange(tstzrange(span.lo, span.hi)) - coalesce(
                        range_agg(tstzrange(b.start_at - kind.duration - kind.after, b.end_at + kind.before, '()')),
                        '{}') AS starts
                    FROM full_times(thing.id, thing.capacity, span.lo - kind.before,
                                    span.hi + kind.duration + kind.after, :now, NULL) AS b
                ) AS free
            ) AS one
            WHERE CAST(:location_id AS uuid) IS NULL OR site.location_id = :location_id
            GROUP BY site.location_id
        ) AS per_site
    ) AS things
    -- For each site, when all the other clinicians who are to take part are there and free.
    CROSS JOIN LATERAL (
        SELECT array_agg(location_id) AS location_ids, array_agg(during) AS during
        FROM (
            SELECT location_id, range_intersect_agg(during) AS during
            FROM (
                SELECT w.clinician_id, w.location_id, range_agg(tstzrange(w.start_at, w.end_at)) - coalesce(
                    (SELECT range_agg(tstzrange(b.start_at - kind.after, b.end_at + kind.before))
                     FROM allocation b
                     WHERE b.bookable_id = w.clinician_id
                       AND (b.expires_at IS NULL OR b.expires_at > :now)
                       AND b.start_at < span.hi + kind.duration + kind.after AND b.end_at > span.lo - kind.before
                       AND b.start_at > span.lo - kind.before - interval '36 hours'),
                    '{}') AS during
                FROM open_window w JOIN users u ON u.id = w.clinician_id AND u.active
                WHERE w.clinician_id = ANY(CAST(:with_ids AS uuid[]))
                  AND w.start_at < span.hi + kind.duration AND w.end_at > span.lo
                  AND w.start_at > span.lo - interval '26 hours'
                  AND (w.appointment_type_ids IS NULL OR kind.id = ANY(w.appointment_type_ids))
                GROUP BY w.clinician_id, w.location_id
            ) AS other
            GROUP BY location_id HAVING count(*) = cardinality(CAST(:with_ids AS uuid[]))
        ) AS per_site
    ) AS others
    CROSS JOIN chosen
    -- Everything about one clinician is LATERAL to their row and read by index. A window may have begun
    -- 26 hours before, a claim (a day and its buffers) 36 hours before.
    CROSS JOIN LATERAL (
        WITH opening AS MATERIALIZED (
            SELECT location_id, grid_at, start_at, end_at
            FROM open_window
            WHERE clinician_id = chosen.id
              AND start_at < span.hi + kind.duration AND end_at > span.lo
              AND start_at > span.lo - interval '26 hours'
              AND (appointment_type_ids IS NULL OR kind.id = ANY(appointment_type_ids))
              AND (CAST(:location_id AS uuid) IS NULL OR location_id = :location_id)
        ),
        -- Where a visit fits: the windows of one site together, less the claims on the clinician's time,
        -- each made longer by the buffers that must lie between it and the visit.
        free AS MATERIALIZED (
            SELECT location_id, range_agg(tstzrange(start_at, end_at)) - coalesce(
                (SELECT range_agg(tstzrange(b.start_at - kind.after, b.end_at + kind.before))
                 FROM allocation b
                 WHERE b.bookable_id = chosen.id
                   AND (b.expires_at IS NULL OR b.expires_at > :now)
                   AND b.start_at < span.hi + kind.duration + kind.after AND b.end_at > span.lo - kind.before
                   AND b.start_at > span.lo - kind.before - interval '36 hours'),
                '{}') AS during,
                things.starts[array_position(things.location_ids, location_id)] AS starts,
                others.during[array_position(others.location_ids, location_id)] AS together
            FROM opening GROUP BY location_id
        )
        -- The starts on the grid of each window that fit there, each once.
        (SELECT DISTINCT ON (starts) o.location_id, at.starts
        FROM opening o JOIN free f ON f.location_id IS NOT DISTINCT FROM o.location_id
        CROSS JOIN LATERAL generate_series(
            ceil(extract(epoch FROM greatest(span.lo, o.start_at) - o.grid_at) / (60 * kind.grid_minutes))::int,
            ceil(extract(epoch FROM least(span.hi, o.end_at) - o.grid_at) / (60 * kind.grid_minutes))::int - 1
        ) AS step
        CROSS JOIN LATERAL (SELECT o.grid_at + make_interval(mins => step * kind.grid_minutes)) AS at (starts)
        WHERE (at.starts AT TIME ZONE chosen.time_zone)::date <= chosen.last_day
          AND tstzrange(at.starts, at.starts + kind.duration) <@ f.during
          AND (kind.needs = '{}' OR at.starts <@ f.starts)
          AND (CAST(:with_ids AS uuid[]) = '{}' OR tstzrange(at.starts, at.starts + kind.duration) <@ f.together)
        ORDER BY at.starts, o.location_id)
        UNION ALL
        -- Groups that have begun to fill, and have a seat.
        SELECT location_id, start_at
        FROM group_session
        WHERE kind.group_capacity IS NOT NULL AND clinician_id = chosen.id AND appointment_type_id = kind.id
          AND start_at >= span.lo AND start_at < span.hi AND end_at = start_at + kind.duration
          AND booked > 0 AND booked < capacity AND CAST(:with_ids AS uuid[]) = '{}'
          AND (start_at AT TIME ZONE chosen.time_zone)::date <= chosen.last_day
          AND (CAST(:location_id AS uuid) IS NULL OR location_id = :location_id)
    ) AS slot
    WHERE CAST(:after AS timestamptz) IS NULL OR (slot.starts, chosen.id) > (:after, :after_clinician_id)
    ORDER BY span.lo, slot.starts, chosen.id
    LIMIT :limit
) AS found ON true
ORDER BY found.starts, found.clinician_id
