-- A worker that still holds a job stays, so that the rescue finds it.
DELETE FROM workers
WHERE id = :worker AND NOT EXISTS (SELECT FROM jobs j WHERE j.worker_id = :worker AND j.status = 'in_progress')
