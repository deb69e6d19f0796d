-- What may be claimed, by model, tier and the end of its batch's window (null: it is no batch's). Tokens are those of the
-- next hundred of each flow on average, times all of them: a queue may be a million long.
SELECT f.model_id, f.tier, b.expires_at AS window_ends, extract(epoch FROM b.expires_at - now())::float8 AS due_seconds,
       sum(f.queued)::int AS queued, sum(f.queued * head.cost)::float8 AS tokens,
       coalesce(extract(epoch FROM now() - min(head.since)), 0)::float8 AS oldest_seconds
FROM flows f
JOIN tenants t ON t.id = f.tenant_id
LEFT JOIN batches b ON b.id = f.batch_id
CROSS JOIN LATERAL (
    SELECT coalesce(avg(h.cost), 0) AS cost, min(h.created_at) AS since
    FROM (
        SELECT j.cost, j.created_at FROM jobs j
        WHERE j.flow_id = f.id AND j.status = 'queued' AND j.blocked_on IS NULL AND j.place >= f.cursor
        ORDER BY j.place
        LIMIT 100
    ) h
) head
WHERE f.open AND NOT f.paused AND NOT t.paused
GROUP BY f.model_id, f.tier, b.expires_at
