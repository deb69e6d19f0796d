-- The tokens, as they are estimated, of what waits of a tenant's batches for a model.
SELECT coalesce(sum(j.cost), 0)::bigint AS tokens
FROM flows f
JOIN jobs j ON j.flow_id = f.id AND j.status = 'queued' AND j.blocked_on IS NULL
WHERE f.model_id = :model AND f.tenant_id = :tenant AND f.open AND f.batch_id IS NOT NULL
