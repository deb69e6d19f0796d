DELETE FROM idempotency
WHERE (tenant_id, key, kind) IN (
    SELECT tenant_id, key, kind FROM idempotency
    WHERE created_at <= now() - interval '24 hours'
    ORDER BY created_at
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
)
RETURNING kind
