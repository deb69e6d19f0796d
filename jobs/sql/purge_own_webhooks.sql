-- After purge_jobs.sql and purge_batches.sql: the webhooks of jobs and batches that are gone, once nothing waits for them.
DELETE FROM own_webhooks
WHERE subject_id IN (
    SELECT o.subject_id FROM own_webhooks o
    WHERE o.subject_id < CAST(:bound AS uuid)
      AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = o.subject_id)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.id = o.subject_id)
      AND NOT EXISTS (SELECT FROM deliveries d WHERE d.subject_id = o.subject_id AND d.status = 'pending')
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
)
RETURNING subject_id
