-- Every known model. The newest live registration rules, else the last one; a draining worker takes no more jobs.
SELECT m.id, m.name, m.queue, m.created_at, m.bytes_per_token,
       coalesce(w.registration, m.registration) AS registration,
       coalesce(w.workers, 0)::int AS workers,
       coalesce(w.slots, 0)::int AS slots,
       coalesce((SELECT jsonb_object_agg(l.tier, l.mean_output) FROM lanes l WHERE l.model_id = m.id), '{}') AS outputs
FROM models m
LEFT JOIN (
    SELECT model_id, count(*) AS workers, sum(slots) AS slots,
           (array_agg(registration ORDER BY started_at DESC))[1] AS registration
    FROM workers
    WHERE lease_until > now() AND NOT draining
    GROUP BY model_id
) w ON w.model_id = m.id
WHERE m.retired_at IS NULL
ORDER BY m.id
