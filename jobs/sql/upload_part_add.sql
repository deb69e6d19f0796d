-- A part, once its blob is whole; none where the upload has ended. The lock makes whoever ends it wait.
WITH pending AS (
    SELECT id FROM uploads
    WHERE id = :upload AND tenant_id = :tenant AND status = 'pending' AND expires_at > now()
    FOR SHARE
)
INSERT INTO upload_parts (id, upload_id, bytes, blob)
SELECT :id, id, :bytes, :blob FROM pending
RETURNING id, upload_id, bytes, blob, created_at
