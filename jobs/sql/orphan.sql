-- in_progress -> queued, in_progress -> failed
-- Their worker is lost, which counts: at the second loss a job becomes a suspect; a loss alone, or the tenth, ends it.
-- A suspect that was lost three times is only ever claimed alone (claim_suspects.sql).
WITH lost AS MATERIALIZED (
    SELECT j.id, j.losses + 1 AS losses, (f.tier = 4 AND j.losses >= 3) OR j.losses >= 9 AS doomed,
           CASE WHEN j.losses >= 1 THEN s.id ELSE f.id END AS flow_id
    FROM jobs j JOIN flows f ON f.id = j.flow_id
    LEFT JOIN flows s ON s.model_id = f.model_id AND s.tier = 4 AND s.tenant_id = f.tenant_id AND s.waited = f.waited
                     AND s.batch_id IS NOT DISTINCT FROM f.batch_id
    WHERE j.id = ANY(CAST(:ids AS uuid[])) AND j.worker_id = :worker AND j.status = 'in_progress'
    ORDER BY j.id
    FOR UPDATE OF j
),
ended AS (
    UPDATE jobs
    SET status = 'failed', finished_at = now(), worker_id = NULL, losses = l.losses
    FROM lost l
    WHERE jobs.id = l.id AND l.doomed AND jobs.status = 'in_progress' AND jobs.worker_id = :worker
    RETURNING jobs.id, jobs.flow_id, jobs.tenant_id, jobs.flags, jobs.status, false AS was_queued, NULL::int[] AS tokens
),
stored AS (
    INSERT INTO results (job_id, error_code, error_message)
    SELECT id, 'worker_lost', 'Every worker that ran this job was lost, the last one while it ran nothing else.' FROM ended
),
released AS (
    UPDATE jobs
    SET status = 'queued', worker_id = NULL, started_at = NULL, losses = l.losses, flow_id = l.flow_id
    FROM lost l
    WHERE jobs.id = l.id AND NOT l.doomed AND jobs.status = 'in_progress' AND jobs.worker_id = :worker
      AND l.flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING jobs.id, jobs.flow_id, jobs.place
),
-- include: reopen
,
-- include: ended
UNION ALL
SELECT id, NULL, 0, 0 FROM released   -- no flags: it waits again
