-- queued -> in_progress
-- Start-time fair queueing (Goyal et al., 1996): the heads of the locked flows by virtual start time.
-- A tenant's open flows share the tenant's weight. Inlined, that count would be made for every head, not every flow.
WITH turn AS MATERIALIZED (
    SELECT f.id, f.vtime, f.cursor,
           t.weight * f.weight / greatest(1, (
               SELECT count(*) FROM flows g
               WHERE g.model_id = :model AND g.tier = :tier AND g.open AND g.tenant_id = f.tenant_id)) AS weight
    FROM flows f JOIN tenants t ON t.id = f.tenant_id
    -- A subquery: the planner would take the setting's value of today for the one of every day.
    WHERE f.id = ANY(CAST((SELECT current_setting('longhaul.locked', true)) AS bigint[]))
),
share AS MATERIALIZED (
    SELECT least(CAST(:free AS bigint), 4 + 2 * CAST(:free AS bigint) / greatest(1, count(*))) AS few FROM turn
),
-- A few heads of each flow: reading all that might be taken from each costs more than everything else together.
heads AS MATERIALIZED (
    SELECT j.id, j.place, t.id AS flow_id, t.weight,
           t.vtime + (sum(j.cost) OVER w - j.cost) / t.weight AS start,
           t.vtime + sum(j.cost) OVER w / t.weight AS next,
           row_number() OVER w AS n
    FROM turn t
    CROSS JOIN LATERAL (
        SELECT id, cost, place
        FROM jobs
        WHERE flow_id = t.id AND status = 'queued' AND blocked_on IS NULL AND place >= t.cursor
          AND (expires_at IS NULL OR expires_at > now())
        ORDER BY place
        LIMIT (SELECT few FROM share)
    ) j
    WINDOW w AS (PARTITION BY t.id ORDER BY j.place)
),
-- The flows whose next job would start before the last that is taken: theirs are read on, so the choice is exact.
longer AS (
    SELECT h.flow_id, h.weight, h.place, h.next
    FROM heads h
    WHERE h.n = (SELECT few FROM share)
      AND h.next < coalesce((SELECT start FROM heads ORDER BY start OFFSET CAST(:free AS bigint) - 1 LIMIT 1), 'infinity')
),
tails AS (
    SELECT j.id, l.flow_id, l.weight, l.next + (sum(j.cost) OVER w - j.cost) / l.weight AS start
    FROM longer l
    CROSS JOIN LATERAL (
        SELECT id, cost, place
        FROM jobs
        WHERE flow_id = l.flow_id AND status = 'queued' AND blocked_on IS NULL AND place > l.place
          AND (expires_at IS NULL OR expires_at > now())
        ORDER BY place
        LIMIT :free
    ) j
    WINDOW w AS (PARTITION BY l.flow_id ORDER BY j.place)
),
picked AS MATERIALIZED (
    SELECT id, flow_id, weight, start FROM heads
    UNION ALL
    SELECT id, flow_id, weight, start FROM tails
    ORDER BY start
    LIMIT :free
),
-- include: take
