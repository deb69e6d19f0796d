-- Files whose blobs are gone.
DELETE FROM files WHERE id = ANY(CAST(:ids AS uuid[])) RETURNING id
