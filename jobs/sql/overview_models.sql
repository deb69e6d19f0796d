-- Every known model with its workers: those that serve, those that drain, those that went without a word. `measured` is
-- what those that serve did together in the lanes whose jobs have waited all along; `running` how many jobs are held.
SELECT m.id, m.name, m.queue, coalesce(m.worker_speed, 0)::float8 AS worker_speed,
       coalesce(w.serving, 0)::int AS serving, coalesce(w.draining, 0)::int AS draining, coalesce(w.lost, 0)::int AS lost,
       coalesce(w.slots, 0)::int AS slots,
       coalesce((
           SELECT sum(l.tokens_per_second) FROM lanes l
           WHERE l.model_id = m.id AND l.measured_from > now() - interval '1 minute'
       ), 0)::float8 AS measured
FROM models m
LEFT JOIN (
    SELECT model_id,
           count(*) FILTER (WHERE lease_until > now() AND NOT draining) AS serving,
           count(*) FILTER (WHERE lease_until > now() AND draining) AS draining,
           count(*) FILTER (WHERE lease_until <= now()) AS lost,
           sum(slots) FILTER (WHERE lease_until > now() AND NOT draining) AS slots
    FROM workers GROUP BY model_id
) w ON w.model_id = m.id
WHERE m.retired_at IS NULL
ORDER BY m.name
