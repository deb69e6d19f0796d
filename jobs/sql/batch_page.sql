SELECT * FROM batches WHERE tenant_id = :tenant AND id < CAST(:before AS uuid) ORDER BY id DESC LIMIT :limit
