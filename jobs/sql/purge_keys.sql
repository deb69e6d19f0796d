-- Keys that are a day old, five thousand at most. A batch's is kept until a day after its end, and a file's as long as the
-- file: who sends one again while it is of use finds it.
DELETE FROM idempotency
WHERE (tenant_id, key, kind) IN (
    SELECT tenant_id, key, kind FROM idempotency i
    WHERE created_at <= now() - interval '24 hours'
      AND CASE kind
              WHEN 'batch' THEN NOT EXISTS (
                  SELECT FROM batches b
                  WHERE b.id = i.object_id
                    AND coalesce(b.completed_at, b.failed_at, b.expired_at, b.cancelled_at, 'infinity')
                        > now() - interval '24 hours'
              )
              WHEN 'file' THEN NOT EXISTS (
                  SELECT FROM files f
                  WHERE f.id = i.object_id AND f.deleted_at IS NULL AND (f.expires_at IS NULL OR f.expires_at > now())
              )
              ELSE true
          END
    ORDER BY created_at
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
)
RETURNING kind
