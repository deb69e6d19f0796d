-- Lock the flows of these jobs and their suspect flows.
SELECT id
FROM flows
WHERE id IN (
    SELECT s.id
    FROM jobs j JOIN flows f ON f.id = j.flow_id
    JOIN flows s ON s.model_id = f.model_id AND s.tier IN (f.tier, 4) AND s.tenant_id = f.tenant_id
                AND s.waited = f.waited AND s.batch_id IS NOT DISTINCT FROM f.batch_id
    WHERE j.id = ANY(CAST(:ids AS uuid[]))
)
ORDER BY id
FOR UPDATE
