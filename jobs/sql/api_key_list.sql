SELECT k.id, t.name AS tenant, k.name, k.hint, k.created_at, k.revoked_at
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
ORDER BY k.id
