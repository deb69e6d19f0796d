-- queued -> in_progress
-- Start-time fair queueing (Goyal et al., 1996): the heads of the locked flows by virtual start time.
-- A tenant's open flows share the tenant's weight. Inlined, that count would be made for every head, not every flow.
WITH turn AS MATERIALIZED (
    SELECT f.id, f.vtime, f.cursor,
           t.weight * f.weight / greatest(1, (
               SELECT count(*) FROM flows g
               WHERE g.model_id = :model AND g.tier = :tier AND g.open AND g.tenant_id = f.tenant_id)) AS weight
    FROM flows f JOIN tenants t ON t.id = f.tenant_id
    WHERE f.id = ANY(CAST(:locked AS bigint[]))
),
heads AS (
    SELECT j.id, t.id AS flow_id, t.weight, t.vtime + (sum(j.cost) OVER w - j.cost) / t.weight AS start
    FROM turn t
    CROSS JOIN LATERAL (
        SELECT id, cost, place
        FROM jobs
        WHERE flow_id = t.id AND status = 'queued' AND blocked_on IS NULL AND place >= t.cursor
          AND (expires_at IS NULL OR expires_at > now())
        ORDER BY place
        LIMIT :free
    ) j
    WINDOW w AS (PARTITION BY t.id ORDER BY j.place)
),
picked AS MATERIALIZED (
    SELECT * FROM heads ORDER BY start LIMIT :free
),
-- include: take
