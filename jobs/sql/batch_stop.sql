-- queued -> cancelled, queued -> expired
-- After batch_flows_lock.sql: everything that waits in these flows, in one statement.
WITH ended AS (
    UPDATE jobs
    SET status = CAST(:status AS job_status), finished_at = now()
    FROM (
        SELECT id FROM jobs
        WHERE flow_id = ANY(CAST(:flows AS bigint[])) AND status = 'queued' AND blocked_on IS NULL ORDER BY id
    ) q
    WHERE jobs.id = q.id AND jobs.status = 'queued'
    RETURNING jobs.id, jobs.flow_id, jobs.tenant_id, jobs.flags, jobs.status, true AS was_queued, NULL::int[] AS tokens
),
-- include: ended
