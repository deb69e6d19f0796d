-- finalizing -> completed, finalizing -> expired, cancelling -> cancelled
WITH ended AS (
    UPDATE batches
    SET status = ending,
        output_file_id = CAST(:output AS uuid),
        error_file_id = CAST(:errors AS uuid),
        input_tokens = :input_tokens, cached_tokens = :cached_tokens,
        output_tokens = :output_tokens, reasoning_tokens = :reasoning_tokens,
        finalizing_at = coalesce(finalizing_at, now()),
        completed_at = CASE ending WHEN 'completed' THEN now() END,
        expired_at = CASE ending WHEN 'expired' THEN now() END,
        cancelled_at = CASE ending WHEN 'cancelled' THEN now() END
    WHERE id = :id AND ended = total AND status IN ('finalizing', 'cancelling')
    RETURNING id, tenant_id, status
),
news AS (
    SELECT id AS subject_id, tenant_id, 'batch.' || status AS type, true AS own FROM ended
),
-- include: tell
SELECT id FROM ended
