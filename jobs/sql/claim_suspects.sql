-- queued -> in_progress
-- Jobs that lost two workers, eight together; one that lost a third runs alone.
WITH heads AS (
    SELECT j.id, j.flow_id, j.losses, t.weight * f.weight AS weight, f.vtime AS start, j.place
    FROM jobs j JOIN flows f ON f.id = j.flow_id JOIN tenants t ON t.id = f.tenant_id
    WHERE j.flow_id = ANY(CAST((SELECT current_setting('longhaul.locked', true)) AS bigint[])) AND j.status = 'queued' AND j.blocked_on IS NULL
      AND (j.expires_at IS NULL OR j.expires_at > now())
    ORDER BY j.losses, j.place
    LIMIT :free
),
picked AS MATERIALIZED (
    SELECT * FROM heads WHERE losses < 3
    UNION ALL
    (SELECT * FROM heads WHERE NOT EXISTS (SELECT FROM heads WHERE losses < 3) LIMIT 1)
),
-- include: take
