SELECT w.id
FROM workers w
WHERE w.lease_until <= now()
  AND pg_postmaster_start_time() <= now() - make_interval(secs => :lease)
  AND EXISTS (SELECT FROM jobs j WHERE j.worker_id = w.id AND j.status = 'in_progress')
