SELECT j.id
FROM jobs j JOIN flows f ON f.id = j.flow_id
WHERE f.model_id = :model AND j.status = 'queued'
ORDER BY j.id
LIMIT 1000
