-- What a claim would serve before this job: the jobs ahead of it in its own flow, and in every other open flow of its
-- lane those with an earlier virtual start. A thousand of each flow are looked at; the rest is the flow's counter.
WITH mine AS (
    SELECT j.id, j.place, j.flow_id, f.model_id, f.tier, f.vtime, f.cursor, t.weight * f.weight / greatest(1, (
               SELECT count(*) FROM flows g
               WHERE g.model_id = f.model_id AND g.tier = f.tier AND g.open AND g.tenant_id = f.tenant_id)) AS weight
    FROM jobs j JOIN flows f ON f.id = j.flow_id JOIN tenants t ON t.id = f.tenant_id
    WHERE j.id = :id AND j.status = 'queued'
),
before AS (
    SELECT count(*) AS k, coalesce(sum(b.cost), 0) AS cost
    FROM mine m
    CROSS JOIN LATERAL (
        SELECT cost FROM jobs
        WHERE flow_id = m.flow_id AND status = 'queued' AND blocked_on IS NULL AND place >= m.cursor AND place < m.place
    ) b
),
start AS (
    SELECT m.*, m.vtime + b.cost / m.weight AS at FROM mine m CROSS JOIN before b
),
others AS (
    SELECT count(*) AS k, coalesce(sum(h.cost), 0) AS cost
    FROM start s
    JOIN flows f ON f.model_id = s.model_id AND f.tier = s.tier AND f.open AND f.id <> s.flow_id AND f.vtime < s.at
                AND NOT f.paused
    JOIN tenants t ON t.id = f.tenant_id AND NOT t.paused
    CROSS JOIN LATERAL (
        SELECT t.weight * f.weight / greatest(1, (
            SELECT count(*) FROM flows g
            WHERE g.model_id = f.model_id AND g.tier = f.tier AND g.open AND g.tenant_id = f.tenant_id)) AS weight
    ) w
    CROSS JOIN LATERAL (
        SELECT q.cost, f.vtime + (sum(q.cost) OVER (ORDER BY q.place) - q.cost) / w.weight AS at
        FROM (
            SELECT cost, place FROM jobs
            WHERE flow_id = f.id AND status = 'queued' AND blocked_on IS NULL AND place >= f.cursor
            ORDER BY place LIMIT 1001
        ) q
    ) h
    WHERE h.at < s.at
)
SELECT (b.k + o.k)::int AS place, (b.cost + o.cost)::bigint AS tokens, coalesce(l.tokens_per_second, 0) AS tokens_per_second
FROM start s
CROSS JOIN before b
CROSS JOIN others o
LEFT JOIN lanes l ON l.model_id = s.model_id AND l.tier = s.tier
