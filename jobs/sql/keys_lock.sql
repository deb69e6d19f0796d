-- Whoever takes one of these idempotency keys waits for whoever is taking it now. In the locks' order: no deadlock; and
-- of 1,024 locks, since a lock for every key of many arrays would fill the server's table.
SELECT pg_advisory_xact_lock(hash)
FROM (
    SELECT DISTINCT hashtextextended(k.key, k.tenant_id) & 1023 AS hash
    FROM unnest(CAST(:tenants AS int[]), CAST(:keys AS text[])) AS k (tenant_id, key)
    ORDER BY hash
) h
