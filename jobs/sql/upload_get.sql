-- A tenant's upload.
SELECT
    -- include: upload_columns
FROM uploads
WHERE id = :id AND tenant_id = :tenant
