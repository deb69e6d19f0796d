-- A key of the tenant of this name, who is made when new.
WITH made AS (
    INSERT INTO tenants (name) VALUES (:tenant) ON CONFLICT (name) DO NOTHING RETURNING id
)
INSERT INTO api_keys (id, tenant_id, name, hash, hint)
SELECT :id, t.id, :label, :hash, :hint
FROM (SELECT id FROM made UNION ALL SELECT id FROM tenants WHERE name = :tenant) t
RETURNING id
