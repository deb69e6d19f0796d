SELECT e.*, s.hint
FROM webhook_endpoints e JOIN webhook_secrets s ON s.endpoint_id = e.id AND s.expires_at IS NULL
WHERE e.tenant_id = :tenant AND e.id < CAST(:before AS uuid)
ORDER BY e.id DESC
LIMIT :limit
