-- Retired models that jobs still wait for.
SELECT id FROM models m
WHERE retired_at IS NOT NULL AND EXISTS (SELECT FROM flows f WHERE f.model_id = m.id AND f.queued > 0)
