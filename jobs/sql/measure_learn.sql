-- What one worker of a model was seen to do: a moving average over about a minute, since a worker that has just come
-- counts at once and is measured later. The first measure stands alone.
UPDATE models
SET worker_speed = CASE WHEN worker_speed IS NULL THEN CAST(:speed AS real)
                        ELSE worker_speed + (CAST(:speed AS real) - worker_speed) * 0.1 END
WHERE id = :model
