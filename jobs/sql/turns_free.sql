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
opened AS (
    UPDATE flows f
    SET queued = f.queued + d.k,
        open = true,
        cursor = least(f.cursor, d.place),
        vtime = CASE WHEN f.open THEN f.vtime
                     ELSE greatest(f.vtime, (SELECT l.vfloor FROM lanes l WHERE l.model_id = f.model_id AND l.tier = f.tier))
                END
    FROM (
        SELECT flow_id, count(*) AS k, (array_agg(place ORDER BY place))[1] AS place
        FROM moved WHERE blocked_on IS NULL GROUP BY flow_id
    ) d
    WHERE f.id = d.flow_id
    RETURNING f.model_id, d.k
)
SELECT m.queue, CAST(sum(o.k) AS int) AS jobs FROM opened o JOIN models m ON m.id = o.model_id GROUP BY m.queue
