-- The secrets of an endpoint, or with none the tenant's defaults, before a new one: all end now, or the current one in a day.
WITH old AS (
    SELECT id FROM webhook_secrets
    WHERE tenant_id = :tenant AND endpoint_id IS NOT DISTINCT FROM CAST(:endpoint AS uuid)
),
kept AS (
    UPDATE webhook_secrets s SET expires_at = now() + interval '24 hours'
    FROM old WHERE s.id = old.id AND :keep AND s.expires_at IS NULL
)
DELETE FROM webhook_secrets s USING old
WHERE s.id = old.id AND (NOT :keep OR s.expires_at <= now())
