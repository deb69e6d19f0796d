-- Lock the newest turn of each of these conversations that has not ended: who ends it later finds those that wait for it.
SELECT held.id
FROM (
    SELECT DISTINCT * FROM unnest(CAST(:tenants AS int[]), CAST(:conversations AS text[])) AS c (tenant_id, conversation)
) c
CROSS JOIN LATERAL (
    SELECT j.id
    FROM turns t JOIN jobs j ON j.id = t.job_id
    WHERE t.tenant_id = c.tenant_id AND t.conversation = c.conversation AND j.status IN ('queued', 'in_progress')
    ORDER BY t.turn DESC
    LIMIT 1
    FOR UPDATE OF j
) held
