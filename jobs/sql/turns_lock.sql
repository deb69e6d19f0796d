-- Whoever adds a turn to one of these conversations waits for whoever is adding one now. As in keys_lock.sql, after it.
SELECT pg_advisory_xact_lock(1, hash)
FROM (
    SELECT DISTINCT CAST(hashtextextended(c.conversation, c.tenant_id) & 1023 AS int) AS hash
    FROM unnest(CAST(:tenants AS int[]), CAST(:conversations AS text[])) AS c (tenant_id, conversation)
    ORDER BY hash
) h
