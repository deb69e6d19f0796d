-- A file, once its blob is whole.
INSERT INTO files (id, tenant_id, purpose, filename, bytes, blob, expires_at)
VALUES (
    :id, :tenant, :purpose, :filename, :bytes, :blob, now() + make_interval(secs => CAST(:expires_s AS int))
)
RETURNING id, tenant_id, purpose, filename, bytes, blob, created_at, expires_at
