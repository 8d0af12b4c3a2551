-- What a booking must know of its time: where and by which wall clock it lies within the clinician's
-- windows, which room and devices it takes there, and from when to when it claims all of them.
WITH
kind AS MATERIALIZED (
    SELECT id, horizon_days,
           CAST(:start AS timestamptz) AS starts,
           CAST(:start AS timestamptz) + make_interval(mins => minutes) AS ends,
           CAST(:start AS timestamptz) - make_interval(mins => buffer_before_minutes) AS claims_from,
           CAST(:start AS timestamptz) + make_interval(mins => minutes + buffer_after_minutes) AS claims_until,
           needs_room, needs_device_kinds,
           :now + make_interval(mins => min_notice_minutes) AS earliest
    FROM appointment_type
    CROSS JOIN LATERAL (SELECT coalesce(CAST(:minutes AS int), duration_minutes) AS minutes) AS lasting
    WHERE id = :appointment_type_id AND organization_id = :organization_id
),
chosen AS MATERIALIZED (
    SELECT c.id, c.time_zone,
           (CAST(:now AS timestamptz) AT TIME ZONE c.time_zone)::date + kind.horizon_days AS last_day
    FROM clinician c JOIN users u ON u.id = c.id CROSS JOIN kind
    WHERE c.organization_id = :organization_id AND c.id = :clinician_id
      AND u.active AND EXISTS (SELECT FROM role_grant g WHERE g.user_id = u.id AND g.role = 'clinician')
)
SELECT chosen.id AS clinician_id, kind.earliest, kind.ends, kind.claims_from, kind.claims_until,
       (kind.starts AT TIME ZONE chosen.time_zone)::date > chosen.last_day AS beyond_horizon,
       -- Whoever else is to take part and is not there over the whole of it.
       ARRAY(
           SELECT other FROM unnest(CAST(:with_ids AS uuid[])) AS other
           WHERE NOT EXISTS (
               SELECT FROM open_window w JOIN users u ON u.id = w.clinician_id AND u.active
               WHERE w.clinician_id = other AND w.location_id IS NOT DISTINCT FROM cover.location_id
                 AND w.start_at < kind.ends AND w.end_at > kind.starts AND w.start_at > kind.starts - interval '26 hours'
                 AND (w.appointment_type_ids IS NULL OR kind.id = ANY(w.appointment_type_ids))
               HAVING range_agg(tstzrange(w.start_at, w.end_at)) @> tstzrange(kind.starts, kind.ends))
       ) AS absent,
       cover.location_id, cover.time_zone, kind.starts AT TIME ZONE cover.time_zone AS local_start,
       cover.room_id, cover.device_ids, cover.device_claims, cover.equipped, kind.needs_room
FROM kind LEFT JOIN chosen ON true
LEFT JOIN LATERAL (
    SELECT place.*, room.id AS room_id, devices.ids AS device_ids, devices.claims AS device_claims,
           (room.id IS NOT NULL OR NOT kind.needs_room)
           AND cardinality(devices.ids) = cardinality(kind.needs_device_kinds) AS equipped
    -- The sites whose windows together cover the whole visit.
    FROM (
        SELECT location_id,
               min(time_zone) FILTER (WHERE start_at <= kind.starts AND kind.starts < end_at) AS time_zone
        FROM open_window
        WHERE clinician_id = chosen.id
          AND start_at < kind.ends AND end_at > kind.starts AND start_at > kind.starts - interval '26 hours'
          AND (appointment_type_ids IS NULL OR kind.id = ANY(appointment_type_ids))
          AND (CAST(:location_id AS uuid) IS NULL OR location_id = :location_id)
        GROUP BY location_id
        HAVING range_agg(tstzrange(start_at, end_at)) @> tstzrange(kind.starts, kind.ends)
        -- And the site that was asked for, by no clock: its room is needed whether or not anybody works then.
        UNION ALL SELECT CAST(:location_id AS uuid), NULL WHERE CAST(:location_id AS uuid) IS NOT NULL
    ) AS place
    -- A room there that nobody else has then; what this appointment, or its hold, has itself does not count.
    LEFT JOIN LATERAL (
        SELECT r.id FROM room r
        WHERE kind.needs_room AND r.location_id = place.location_id
          AND NOT EXISTS (
              SELECT FROM full_times(r.id, 1, kind.claims_from, kind.claims_until, :now, CAST(:own_id AS uuid)))
        ORDER BY r.id LIMIT 1
    ) AS room ON true
    -- And a device of each kind that it needs.
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(id), '{}') AS ids, coalesce(array_agg(claim), '{}') AS claims FROM (
            SELECT DISTINCT ON (d.kind) d.id, CASE WHEN d.capacity = 1 THEN 'device' ELSE 'pool' END AS claim
            FROM device d
            WHERE d.kind = ANY(kind.needs_device_kinds) AND d.location_id = place.location_id
              AND NOT EXISTS (
                  SELECT FROM full_times(d.id, d.capacity, kind.claims_from, kind.claims_until, :now,
                                         CAST(:own_id AS uuid)))
            ORDER BY d.kind, d.id
        ) AS one_of_each
    ) AS devices
    -- The first site that has all of it; if none has, the first.
    ORDER BY place.time_zone IS NULL, equipped DESC, place.location_id LIMIT 1
) AS cover ON true
