marked AS (
    UPDATE jobs
    SET status = 'in_progress',
        attempts = attempts + 1,
        lease_token = lease_token + 1,
        worker_id = :worker,
        started_at = now()
    WHERE status = 'queued'
      -- How many are picked is a parameter, of which the planner thinks the most. Of an array it thinks ten.
      AND id = ANY(ARRAY(SELECT id FROM picked))
    RETURNING id, lease_token, flow_id, tenant_id, tier, cost, place, attempts, timeout_s, flags, created_at
),
-- All that were picked were marked: their flows are locked. Read back from arrays, the planner thinks ten of them too, not
-- a share of all that wait, for which it would read all requests; and it would compare each with each (65,536 times for
-- 256, 12 ms of 13), which a full join never does.
taken AS MATERIALIZED (
    SELECT m.*, p.weight, p.start
    FROM marked m
    FULL JOIN unnest(
        ARRAY(SELECT id FROM picked), ARRAY(SELECT weight FROM picked), ARRAY(SELECT start FROM picked)
    ) AS p (id, weight, start) ON p.id = m.id
),
paid AS (
    UPDATE flows
    SET vtime = flows.vtime + d.cost / d.weight,
        queued = flows.queued - d.k,
        open = flows.queued - d.k > 0,
        cursor = d.place
    FROM (
        SELECT flow_id, min(weight) AS weight, sum(cost) AS cost, count(*) AS k,
               (array_agg(place ORDER BY place DESC))[1] AS place
        FROM taken GROUP BY flow_id
    ) d
    WHERE flows.id = d.flow_id
),
lane AS (
    UPDATE lanes
    SET vfloor = greatest(vfloor, (SELECT max(start) FROM taken)), served_at = now()
    WHERE model_id = :model AND tier = :tier AND EXISTS (SELECT FROM taken)
),
news AS (
    SELECT id AS subject_id, tenant_id, 'job.started' AS type, flags & 1 <> 0 AS own
    FROM taken WHERE flags & 32 <> 0 AND lease_token = 1
),
-- include: tell
SELECT t.id, t.lease_token, t.flow_id, t.tenant_id, t.tier, t.cost, t.weight, t.attempts, t.timeout_s, t.flags,
       extract(epoch FROM now() - t.created_at)::float8 AS queued_seconds,
       r.endpoint, r.body, r.previous_id, d.service_tier, d.traceparent, f.waited
FROM taken t
JOIN flows f ON f.id = t.flow_id
JOIN requests r ON r.job_id = t.id
LEFT JOIN details d ON d.job_id = t.id
ORDER BY t.start, t.place
