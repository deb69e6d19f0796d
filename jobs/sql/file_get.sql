-- A tenant's file, unless it was deleted or has expired.
SELECT id, tenant_id, purpose, filename, bytes, blob, created_at, expires_at
FROM files
WHERE id = :id AND tenant_id = :tenant AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
