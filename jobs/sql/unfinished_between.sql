SELECT id FROM jobs
WHERE id >= CAST(:lower AS uuid) AND id < CAST(:upper AS uuid) AND status IN ('queued', 'in_progress')
LIMIT 1
