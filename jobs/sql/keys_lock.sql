-- Whoever takes one of these idempotency keys waits for whoever is taking it now. In the keys' order: no deadlock.
SELECT pg_advisory_xact_lock(hash)
FROM (
    SELECT DISTINCT hashtextextended(k.key, k.tenant_id) AS hash
    FROM unnest(CAST(:tenants AS int[]), CAST(:keys AS text[])) AS k (tenant_id, key)
    ORDER BY hash
) h
