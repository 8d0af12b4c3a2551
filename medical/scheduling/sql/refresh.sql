-- Makes the open windows of some clinicians on some local days what hours, openings, time off and
-- holidays say. Only what differs is written. A day means the local day on which a window begins.
WITH
-- The days in question, and what rules ask of a day.
day AS MATERIALIZED (
    SELECT day, extract(isodow FROM day) AS weekday,
           ceil(extract(day FROM day) / 7)::int AS week_of_month,
           extract(month FROM day) <> extract(month FROM day + 7) AS is_last_of_month
    FROM unnest(CAST(:days AS date[])) AS day
),
-- What each site says of its holidays among them: its own word counts before the national one.
holiday_of_site AS MATERIALIZED (
    SELECT DISTINCT ON (location_id, day) location_id, day, closed
    FROM holiday WHERE day = ANY(CAST(:days AS date[]))
    ORDER BY location_id, day, origin = 'own' DESC
),
-- Weekly hours on the days on which they hold, made instants; a day that a zone skips altogether opens
-- nothing, nor does a holiday of the site.
weekly AS (
    SELECT a.organization_id, a.clinician_id, a.id AS source_id, d.day AS local_day, a.location_id,
           a.appointment_type_ids, a.time_zone,
           local_to_instant(d.day + a.start_time, a.time_zone) AS opens,
           local_to_instant(d.day + (a.end_time <= a.start_time)::int + a.end_time, a.time_zone) AS closes
    FROM availability a
    JOIN day d ON d.weekday = ANY(a.weekdays)
    LEFT JOIN holiday_of_site h ON h.location_id = a.location_id AND h.day = d.day
    WHERE a.clinician_id = ANY(CAST(:clinician_ids AS uuid[]))
      AND d.day BETWEEN coalesce(a.valid_from, '-infinity') AND coalesce(a.valid_until, 'infinity')
      AND floor((d.day - a.first_week_on) / 7.0)::int % a.every_weeks = 0
      AND (a.weeks_of_month IS NULL
           OR d.week_of_month = ANY(a.weeks_of_month)
           OR d.is_last_of_month AND -1 = ANY(a.weeks_of_month))
      AND h.closed IS NOT TRUE
      AND local_to_instant(d.day, a.time_zone) < local_to_instant(d.day + 1, a.time_zone)
),
-- One-off openings begin on one of the days; they open on holidays too.
opening AS MATERIALIZED (
    SELECT * FROM weekly WHERE closes > opens
    UNION ALL
    SELECT organization_id, clinician_id, id, local_day, location_id, appointment_type_ids, time_zone, start_at, end_at
    FROM availability_exception
    WHERE kind = 'open' AND clinician_id = ANY(CAST(:clinician_ids AS uuid[]))
      AND local_day = ANY(CAST(:days AS date[]))
),
-- Time off cuts pieces out of an opening; the grid of possible starts stays where it was.
fresh AS MATERIALIZED (
    SELECT o.organization_id, o.clinician_id, lower(piece) AS start_at, o.source_id, o.local_day,
           upper(piece) AS end_at, o.opens AS grid_at, o.location_id, o.appointment_type_ids, o.time_zone
    FROM opening o
    CROSS JOIN LATERAL unnest(
        tstzmultirange(tstzrange(o.opens, o.closes)) - coalesce(
            (SELECT range_agg(tstzrange(c.start_at, c.end_at)) FROM availability_exception c
             WHERE c.kind = 'closed' AND c.clinician_id = o.clinician_id
               AND c.start_at < o.closes AND c.end_at > o.opens),
            '{}')
    ) AS piece
),
-- What is there of these days.
stored AS MATERIALIZED (
    SELECT organization_id, clinician_id, start_at, source_id, local_day, end_at, grid_at, location_id,
           appointment_type_ids, time_zone
    FROM open_window
    WHERE clinician_id = ANY(CAST(:clinician_ids AS uuid[])) AND local_day = ANY(CAST(:days AS date[]))
),
-- Windows that are not so any more go. EXCEPT compares sets by hash, whatever the planner thinks of their
-- sizes, and nulls as equal.
gone AS (
    DELETE FROM open_window w
    USING (TABLE stored EXCEPT TABLE fresh) AS old
    WHERE w.clinician_id = old.clinician_id AND w.start_at = old.start_at AND w.source_id = old.source_id
      AND w.local_day = old.local_day
    RETURNING 1
)
-- New ones come, once the old ones are gone: a window may have changed and kept its key.
INSERT INTO open_window (organization_id, clinician_id, start_at, source_id, local_day, end_at, grid_at, location_id,
                         appointment_type_ids, time_zone)
SELECT * FROM (TABLE fresh EXCEPT TABLE stored) AS new WHERE (SELECT count(*) FROM gone) >= 0
