-- queued -> failed, in_progress -> failed
-- Streams of which a reader has seen the beginning when their run was given up: another run would say something else.
-- After flows_lock.sql; `was`: see cancel.sql.
WITH ended AS (
    UPDATE jobs
    SET status = 'failed', finished_at = now(), worker_id = NULL
    FROM (
        SELECT id, status AS was FROM jobs
        WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('queued', 'in_progress') ORDER BY id
    ) b
    WHERE jobs.id = b.id AND jobs.status = b.was AND jobs.flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING jobs.id, jobs.flow_id, jobs.tenant_id, jobs.flags, jobs.status,
              b.was = 'queued' AND jobs.blocked_on IS NULL AS was_queued, NULL::int[] AS tokens
),
stored AS (
    INSERT INTO results (job_id, error_code, error_message)
    SELECT id, 'worker_lost', 'The worker that ran this stream was lost before its end.' FROM ended
),
-- include: ended
