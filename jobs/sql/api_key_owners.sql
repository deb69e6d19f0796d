-- Whose keys these are; a revoked key is nobody's.
SELECT k.hash, t.id, t.name
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
WHERE k.hash = ANY(CAST(:hashes AS bytea[])) AND k.revoked_at IS NULL
