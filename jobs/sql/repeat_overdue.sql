-- Removed before they are cancelled: a repeat that comes now starts over instead of finding a job about to end.
DELETE FROM repeats
WHERE job_id IN (
    SELECT job_id FROM repeats
    WHERE abandoned_at <= now() - make_interval(secs => :grace)
    ORDER BY abandoned_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
)
RETURNING job_id
