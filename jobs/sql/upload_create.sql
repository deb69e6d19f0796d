-- (new) -> pending
INSERT INTO uploads (id, tenant_id, purpose, filename, mime_type, bytes, file_expires_s, expires_at)
VALUES (
    :id, :tenant, :purpose, :filename, :mime_type, :bytes, :file_expires_s,
    now() + make_interval(secs => CAST(:seconds AS int))
)
RETURNING
    -- include: upload_columns
