-- validating -> failed
UPDATE batches SET status = 'failed', failed_at = now(), errors = CAST(CAST(:errors AS text) AS jsonb), model = CAST(:model AS text)
WHERE id = :id AND status = 'validating'
RETURNING id
