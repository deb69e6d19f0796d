-- What may be claimed, by model and tier, and since when its oldest job waits: flows keep to the order of their places.
SELECT m.id AS model_id, m.name AS model, f.tier, sum(f.queued)::int AS queued,
       coalesce(extract(epoch FROM now() - min(head.created_at)), 0)::float AS oldest_seconds
FROM flows f
JOIN models m ON m.id = f.model_id
JOIN tenants t ON t.id = f.tenant_id
LEFT JOIN LATERAL (
    SELECT j.created_at FROM jobs j
    WHERE j.flow_id = f.id AND j.status = 'queued' AND j.blocked_on IS NULL AND j.place >= f.cursor
    ORDER BY j.place
    LIMIT 1
) head ON true
WHERE f.open AND NOT f.paused AND NOT t.paused
GROUP BY m.id, m.name, f.tier
