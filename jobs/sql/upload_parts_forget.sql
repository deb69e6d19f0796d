-- Parts whose blobs are gone.
DELETE FROM upload_parts WHERE id = ANY(CAST(:ids AS uuid[])) RETURNING id
