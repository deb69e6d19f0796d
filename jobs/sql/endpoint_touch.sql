-- An endpoint that gets a new secret, locked: one rotation at a time.
UPDATE webhook_endpoints SET updated_at = now() WHERE id = :id AND tenant_id = :tenant RETURNING id
