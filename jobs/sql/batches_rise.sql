-- Batches that will not make their window at their pace leave the batch lane for the default one, at its floor.
-- The pace is known once something ended; in the last tenth of its window every batch is late.
WITH late AS (
    SELECT b.id FROM batches b
    WHERE b.status = 'in_progress' AND b.ending = 'completed'
      AND (b.expires_at - now() < (b.expires_at - b.created_at) * 0.1
           OR (b.ended - b.refused > 0
               AND (now() - b.in_progress_at) * ((b.total - b.ended)::float8 / (b.ended - b.refused)) > b.expires_at - now()))
),
held AS MATERIALIZED (
    SELECT id FROM flows WHERE batch_id IN (SELECT id FROM late) AND tier = 3 ORDER BY id FOR UPDATE
)
UPDATE flows f
SET tier = 1, vtime = greatest(f.vtime, (SELECT l.vfloor FROM lanes l WHERE l.model_id = f.model_id AND l.tier = 1))
WHERE f.id = ANY(ARRAY(SELECT id FROM held))
RETURNING f.id
