DELETE FROM idempotency WHERE tenant_id = :tenant AND key = :key AND kind = 'job' AND object_id = :id
