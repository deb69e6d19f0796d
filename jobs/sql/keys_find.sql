SELECT i.tenant_id, i.key, i.body_hash, i.object_id
FROM unnest(CAST(:tenants AS int[]), CAST(:keys AS text[])) AS k (tenant_id, key)
JOIN idempotency i ON i.tenant_id = k.tenant_id AND i.key = k.key AND i.kind = :kind
