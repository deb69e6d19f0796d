-- validating -> failed
WITH ended AS (
    UPDATE batches SET status = 'failed', failed_at = now(), errors = CAST(CAST(:errors AS text) AS jsonb), model = CAST(:model AS text)
    WHERE id = :id AND status = 'validating'
    RETURNING id, tenant_id
),
news AS (
    SELECT id AS subject_id, tenant_id, 'batch.failed' AS type, true AS own FROM ended
),
-- include: tell
SELECT id FROM ended
