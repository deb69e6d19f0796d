-- pending -> cancelled
UPDATE uploads
SET status = 'cancelled'
WHERE id = :id AND tenant_id = :tenant AND status = 'pending' AND expires_at > now()
RETURNING
    -- include: upload_columns
