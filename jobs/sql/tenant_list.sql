SELECT id, name, weight, paused, created_at FROM tenants ORDER BY id
