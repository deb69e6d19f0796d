-- The flow of a batch gets its jobs, in the transaction that writes them.
UPDATE flows f
SET queued = f.queued + :jobs, open = true, cursor = least(f.cursor, :first),
    vtime = greatest(f.vtime, (SELECT l.vfloor FROM lanes l WHERE l.model_id = f.model_id AND l.tier = f.tier))
WHERE f.id = :flow
