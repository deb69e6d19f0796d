-- validating -> in_progress, validating -> finalizing
-- The second when admission refused every line.
UPDATE batches
SET status = CASE WHEN :refused = CAST(:total AS int) THEN 'finalizing' ELSE 'in_progress' END::batch_status,
    in_progress_at = now(),
    finalizing_at = CASE WHEN :refused = CAST(:total AS int) THEN now() END,
    model = CAST(:model AS text), total = :total, failed = :refused, refused = :refused, ended = :refused
WHERE id = :id AND status = 'validating'
RETURNING id
