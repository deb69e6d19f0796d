-- The turns that waited for these jobs, which have ended: each may run, unless an earlier one has yet to end.
-- After turns_flows_lock.sql.
WITH waiting AS MATERIALIZED (
    SELECT j.id, t.tenant_id, t.conversation, t.turn
    FROM jobs j JOIN turns t ON t.job_id = j.id
    WHERE j.blocked_on = ANY(CAST(:ids AS uuid[])) AND j.status = 'queued'
      AND j.flow_id = ANY(CAST(:locked AS bigint[]))
),
moved AS (
    UPDATE jobs
    SET blocked_on = (
        SELECT e.id FROM turns t JOIN jobs e ON e.id = t.job_id
        WHERE t.tenant_id = w.tenant_id AND t.conversation = w.conversation AND t.turn < w.turn
          AND e.status IN ('queued', 'in_progress')
        ORDER BY t.turn DESC LIMIT 1
    )
    FROM waiting w
    WHERE jobs.id = w.id AND jobs.status = 'queued'
    RETURNING jobs.id, jobs.flow_id, jobs.place, jobs.blocked_on
),
entering AS (
    SELECT flow_id, place FROM moved WHERE blocked_on IS NULL
),
-- include: opened
SELECT m.queue, CAST(sum(o.k) AS int) AS jobs FROM opened o JOIN models m ON m.id = o.model_id GROUP BY m.queue
