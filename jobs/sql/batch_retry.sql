-- The lines of a batch that ended without success, in the order of its file, with their requests and their jobs' terms.
SELECT l.line, l.custom_id, l.job_id, q.body, j.timeout_s, j.expires_at
FROM (
    SELECT line, custom_id, job_id FROM lines
    WHERE batch_id = :batch AND line > :after AND status IN ('failed', 'cancelled', 'expired')
    ORDER BY line LIMIT :limit
) l
LEFT JOIN requests q ON q.job_id = l.job_id
LEFT JOIN jobs j ON j.id = l.job_id
ORDER BY l.line
