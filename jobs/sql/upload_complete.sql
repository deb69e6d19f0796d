-- pending -> completed
UPDATE uploads
SET status = 'completed', file_id = :file
WHERE id = :id AND tenant_id = :tenant AND status = 'pending' AND expires_at > now()
RETURNING
    -- include: upload_columns
