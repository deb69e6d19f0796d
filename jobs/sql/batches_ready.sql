-- Batches with nothing left but to write their files.
SELECT id, tenant_id FROM batches
WHERE status = 'finalizing' OR (status = 'cancelling' AND ended = total)
ORDER BY id
