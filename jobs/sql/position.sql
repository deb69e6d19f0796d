-- What a claim would serve before this job: the jobs ahead of it in its own flow, and in every other open flow of its
-- lane those with an earlier virtual start. A thousand of each flow are looked at; what lies beyond is reckoned, in its
-- own flow by where the job's place lies between the first and the last (places begin with a time or a hash), in others
-- by the virtual time that they have until then. A turn of a conversation that waits for another has those before it
-- that wait themselves ahead of it too; when it starts is for the one before it to say, so it has no speed.
WITH RECURSIVE mine AS MATERIALIZED (
    SELECT j.id, j.place, j.flow_id, j.blocked_on, f.model_id, f.tier, f.vtime, f.cursor, f.queued, t.weight * f.weight / greatest(1, (
               SELECT count(*) FROM flows g
               WHERE g.model_id = f.model_id AND g.tier = f.tier AND g.open AND g.tenant_id = f.tenant_id)) AS weight
    FROM jobs j JOIN flows f ON f.id = j.flow_id JOIN tenants t ON t.id = f.tenant_id
    WHERE j.id = :id AND j.status = 'queued'
),
earlier (id, cost, blocked_on) AS (
    SELECT j.id, j.cost, j.blocked_on FROM mine m JOIN jobs j ON j.id = m.blocked_on
    WHERE j.status = 'queued' AND j.blocked_on IS NOT NULL
    UNION ALL
    SELECT j.id, j.cost, j.blocked_on FROM earlier e JOIN jobs j ON j.id = e.blocked_on
    WHERE j.status = 'queued' AND j.blocked_on IS NOT NULL
),
near AS MATERIALIZED (
    SELECT count(*) AS k, coalesce(sum(b.cost), 0) AS cost
    FROM mine m
    CROSS JOIN LATERAL (
        SELECT cost FROM jobs
        WHERE flow_id = m.flow_id AND status = 'queued' AND blocked_on IS NULL AND place >= m.cursor AND place < m.place
        ORDER BY place LIMIT 1001
    ) b
),
ends AS (
    SELECT ('x' || encode(substring(m.place FROM 1 FOR 6), 'hex'))::bit(48)::bigint::float8 AS here,
           ('x' || encode(substring(head.place FROM 1 FOR 6), 'hex'))::bit(48)::bigint::float8 AS head,
           ('x' || encode(substring(tail.place FROM 1 FOR 6), 'hex'))::bit(48)::bigint::float8 AS tail
    FROM mine m
    CROSS JOIN LATERAL (
        SELECT place FROM jobs
        WHERE flow_id = m.flow_id AND status = 'queued' AND blocked_on IS NULL AND place >= m.cursor
        ORDER BY place LIMIT 1
    ) head
    CROSS JOIN LATERAL (
        SELECT place FROM jobs
        WHERE flow_id = m.flow_id AND status = 'queued' AND blocked_on IS NULL AND place >= m.cursor
        ORDER BY place DESC LIMIT 1
    ) tail
),
before AS (
    SELECT r.k, CASE WHEN n.k <= 1000 THEN n.cost ELSE r.k * n.cost / n.k END AS cost
    FROM mine m
    CROSS JOIN near n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n.k <= 1000 THEN n.k
                    ELSE greatest(n.k, m.queued * (SELECT coalesce((here - head) / nullif(tail - head, 0), 1) FROM ends))
               END AS k
    ) r
),
start AS (
    SELECT m.*, m.vtime + b.cost / m.weight AS at FROM mine m CROSS JOIN before b
),
others AS (
    SELECT coalesce(sum(r.k), 0) AS k, coalesce(sum(CASE WHEN n.k <= 1000 THEN n.cost ELSE r.k * n.mean END), 0) AS cost
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
        SELECT count(*) AS k, coalesce(sum(h.cost), 0) AS cost, avg(h.cost) AS mean
        FROM (
            SELECT q.cost, f.vtime + (sum(q.cost) OVER (ORDER BY q.place) - q.cost) / w.weight AS at
            FROM (
                SELECT cost, place FROM jobs
                WHERE flow_id = f.id AND status = 'queued' AND blocked_on IS NULL AND place >= f.cursor
                ORDER BY place LIMIT 1001
            ) q
        ) h
        WHERE h.at < s.at
    ) n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n.k <= 1000 THEN n.k ELSE least(f.queued, (s.at - f.vtime) * w.weight / n.mean::float8) END AS k
    ) r
)
SELECT round(b.k + o.k + e.k)::int AS place, round(b.cost + o.cost + e.cost)::bigint AS tokens,
       CASE WHEN s.blocked_on IS NULL THEN coalesce(l.tokens_per_second, 0) ELSE 0 END AS tokens_per_second
FROM start s
CROSS JOIN before b
CROSS JOIN others o
CROSS JOIN (SELECT count(*) AS k, coalesce(sum(cost), 0) AS cost FROM earlier) e
LEFT JOIN lanes l ON l.model_id = s.model_id AND l.tier = s.tier
