-- An upload as readers see it: one past its time has expired.
    id, tenant_id, purpose, filename, mime_type, bytes, file_expires_s, created_at, expires_at,
    CASE WHEN status = 'pending' AND expires_at <= now() THEN 'expired' ELSE status END AS status
