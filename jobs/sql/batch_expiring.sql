-- validating -> finalizing, in_progress -> (itself, until its running lines have ended)
-- The window of a batch is over.
UPDATE batches
SET ending = 'expired',
    status = CASE WHEN status = 'validating' THEN 'finalizing' ELSE status END
WHERE id = :id AND ending = 'completed' AND status IN ('validating', 'in_progress', 'finalizing')
RETURNING id
