SELECT w.id, m.name AS model, w.host, w.pid, w.home, w.slots, w.started_at, w.lease_until, w.draining,
       (SELECT count(*) FROM jobs j WHERE j.worker_id = w.id AND j.status = 'in_progress')::int AS running
FROM workers w JOIN models m ON m.id = w.model_id
WHERE w.lease_until > now()
ORDER BY w.started_at
