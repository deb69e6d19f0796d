-- The idempotency key of a file that is gone may stand for another.
DELETE FROM idempotency WHERE tenant_id = :tenant AND key = :key AND kind = 'file'
