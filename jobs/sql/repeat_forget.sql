-- An answered job is kept for a moment: its response may have been lost with the connection that it travelled on.
DELETE FROM repeats
WHERE job_id IN (
    SELECT r.job_id
    FROM repeats r LEFT JOIN jobs j ON j.id = r.job_id
    WHERE r.abandoned_at IS NULL
      AND (j.id IS NULL OR j.finished_at <= now() - interval '1 minute')
    LIMIT 1000
    FOR UPDATE OF r SKIP LOCKED
)
RETURNING job_id
