SELECT * FROM batches WHERE id = :id AND tenant_id = :tenant
