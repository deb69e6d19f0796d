-- Workers that went without a word, with the jobs that they hold still and since when.
SELECT w.host, w.pid, m.name AS model, extract(epoch FROM now() - greatest(w.lease_until, w.started_at))::float8 AS seconds,
       (SELECT count(*) FROM jobs j WHERE j.worker_id = w.id AND j.status = 'in_progress')::int AS held
FROM workers w JOIN models m ON m.id = w.model_id
WHERE w.lease_until <= now()
ORDER BY w.lease_until
