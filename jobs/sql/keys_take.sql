INSERT INTO idempotency (tenant_id, key, kind, body_hash, object_id)
SELECT tenant_id, key, :kind, body_hash, id
FROM unnest(CAST(:tenants AS int[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]), CAST(:ids AS uuid[]))
  AS k (tenant_id, key, body_hash, id)
