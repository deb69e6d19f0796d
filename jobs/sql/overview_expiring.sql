-- Tokens of the next thousand jobs that expire unless they run before, by model, tier, the end of their batch's window and
-- minute. A minute's are due when its first expires. What is past its time already nobody can save.
SELECT f.model_id, f.tier, b.expires_at AS window_ends,
       extract(epoch FROM min(j.expires_at) - now())::float8 AS due_seconds, sum(j.cost)::float8 AS tokens
FROM (
    SELECT flow_id, cost, expires_at, blocked_on FROM jobs
    WHERE status = 'queued' AND expires_at > now()
    ORDER BY expires_at
    LIMIT 1000
) j
JOIN flows f ON f.id = j.flow_id
JOIN tenants t ON t.id = f.tenant_id
LEFT JOIN batches b ON b.id = f.batch_id
WHERE j.blocked_on IS NULL AND NOT f.paused AND NOT t.paused
GROUP BY f.model_id, f.tier, b.expires_at, date_trunc('minute', j.expires_at)
