-- Tokens of the next thousand jobs that expire unless they run before, by model and minute.
SELECT f.model_id, ceil(extract(epoch FROM j.expires_at - now()) / 60)::float8 * 60 AS due_seconds, sum(j.cost)::float8 AS tokens
FROM (
    SELECT flow_id, cost, expires_at, blocked_on FROM jobs
    WHERE status = 'queued' AND expires_at IS NOT NULL
    ORDER BY expires_at
    LIMIT 1000
) j
JOIN flows f ON f.id = j.flow_id
JOIN tenants t ON t.id = f.tenant_id
WHERE j.blocked_on IS NULL AND NOT f.paused AND NOT t.paused
GROUP BY 1, 2
