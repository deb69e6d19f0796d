-- Those of these parts that the upload has.
SELECT id, upload_id, bytes, blob, created_at
FROM upload_parts
WHERE upload_id = :upload AND id = ANY(CAST(:ids AS uuid[]))
