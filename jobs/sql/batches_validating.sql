-- Batches whose input is to be read, the smallest first: a small one does not wait for a large one.
SELECT b.*, f.blob, f.bytes
FROM batches b
LEFT JOIN files f ON f.id = b.input_file_id AND f.tenant_id = b.tenant_id
                 AND (f.deleted_at IS NULL OR f.deleted_at > b.created_at)
                 AND (f.expires_at IS NULL OR f.expires_at > b.created_at)
WHERE b.status = 'validating'
ORDER BY f.bytes NULLS FIRST, b.id
