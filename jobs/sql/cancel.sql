-- queued -> cancelled, in_progress -> cancelled
-- After flows_lock.sql: with its flow locked no job is claimed or handed back, so `was` can only change by ending.
WITH ended AS (
    UPDATE jobs
    SET status = 'cancelled', finished_at = now(), worker_id = NULL
    FROM (
        SELECT id, status AS was FROM jobs
        WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('queued', 'in_progress') ORDER BY id
    ) b
    WHERE jobs.id = b.id AND jobs.status = b.was AND jobs.flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING jobs.id, jobs.flow_id, jobs.tenant_id, jobs.flags, jobs.status,
              b.was = 'queued' AND jobs.blocked_on IS NULL AS was_queued, NULL::int[] AS tokens
),
-- include: ended
