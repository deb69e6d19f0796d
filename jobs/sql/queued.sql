-- What may be claimed, by model.
SELECT f.model_id, sum(f.queued)::int AS queued
FROM flows f
JOIN tenants t ON t.id = f.tenant_id
WHERE f.open AND NOT f.paused AND NOT t.paused
GROUP BY f.model_id
