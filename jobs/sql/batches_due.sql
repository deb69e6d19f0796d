-- Batches whose window is over while not all of their lines have ended.
SELECT id FROM batches
WHERE status IN ('validating', 'in_progress') AND ending = 'completed' AND expires_at <= now()
ORDER BY id
