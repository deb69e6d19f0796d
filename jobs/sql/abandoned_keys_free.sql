-- A key was written in its job's transaction, so at the same time, by which there is an index.
DELETE FROM idempotency i
USING jobs j
WHERE j.id = ANY(CAST(:ids AS uuid[]))
  AND i.created_at = j.created_at AND i.object_id = j.id AND i.tenant_id = j.tenant_id AND i.kind = 'job'
