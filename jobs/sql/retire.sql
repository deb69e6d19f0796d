-- queued -> failed
WITH ended AS (
    UPDATE jobs
    SET status = 'failed', finished_at = now()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'queued' AND flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING id, flow_id, tenant_id, flags, status, blocked_on IS NULL AS was_queued, NULL::int[] AS tokens
),
stored AS (
    INSERT INTO results (job_id, error_code, error_message)
    SELECT id, 'model_retired', 'The model of this job was retired before the job ran.' FROM ended
),
-- include: ended
