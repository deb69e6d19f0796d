-- A thousand queued jobs of a model, flow by flow, and then those that wait for another job.
SELECT j.id
FROM flows f
CROSS JOIN LATERAL (
    SELECT id FROM jobs
    WHERE flow_id = f.id AND status = 'queued' AND blocked_on IS NULL
    ORDER BY place
    LIMIT 1000
) j
WHERE f.model_id = :model AND f.open
UNION ALL
SELECT j.id
FROM jobs j JOIN flows f ON f.id = j.flow_id
WHERE j.blocked_on IS NOT NULL AND j.status = 'queued' AND f.model_id = :model
LIMIT 1000
