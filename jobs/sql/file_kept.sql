-- A tenant's file, deleted or expired or not, while its blob is kept.
SELECT id, tenant_id, purpose, filename, bytes, blob, created_at, expires_at
FROM files
WHERE id = :id AND tenant_id = :tenant
