-- in_progress -> queued
-- Handed back by their own worker, so the attempt is refunded. After flows_lock.sql. worker_id: see finish.sql.
WITH held AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:lease_tokens AS int[])) AS h (id, lease_token)
),
released AS (
    UPDATE jobs
    SET status = 'queued', worker_id = NULL, started_at = NULL, attempts = attempts - 1
    FROM held h
    WHERE jobs.id = h.id AND jobs.lease_token = h.lease_token AND jobs.worker_id IS NOT NULL
      AND jobs.flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING jobs.id, jobs.flow_id, jobs.place
),
-- include: reopen
SELECT id FROM released
