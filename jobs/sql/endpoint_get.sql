SELECT e.*, s.hint
FROM webhook_endpoints e JOIN webhook_secrets s ON s.endpoint_id = e.id AND s.expires_at IS NULL
WHERE e.id = :id AND e.tenant_id = :tenant
