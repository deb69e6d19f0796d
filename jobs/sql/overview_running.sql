-- What workers hold, by model and tier: they are found first, each one's jobs by their index.
SELECT f.model_id, f.tier, count(*)::int AS running, sum(j.cost)::float8 AS tokens
FROM workers w
JOIN jobs j ON j.worker_id = w.id AND j.status = 'in_progress'
JOIN flows f ON f.id = j.flow_id
GROUP BY f.model_id, f.tier
