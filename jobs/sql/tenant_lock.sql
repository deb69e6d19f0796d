SELECT id FROM tenants WHERE name = :tenant FOR UPDATE
