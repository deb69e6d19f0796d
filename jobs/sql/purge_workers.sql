-- Workers that went without a word, once nobody can want to know of them any more.
DELETE FROM workers w
WHERE lease_until <= now() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.worker_id = w.id AND j.status = 'in_progress')
RETURNING id
