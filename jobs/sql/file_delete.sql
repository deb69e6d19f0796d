-- Hides a tenant's file at once; its blob goes later.
UPDATE files
SET deleted_at = now()
WHERE id = :id AND tenant_id = :tenant AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id
