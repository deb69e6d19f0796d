-- The adapters of the engine's other live workers: requests for one of them may reach any of the workers.
SELECT DISTINCT w.registration -> 'adapters' AS adapters
FROM workers w JOIN models m ON m.id = w.model_id
WHERE m.name = :model AND w.id <> :worker AND w.lease_until > now() AND NOT w.draining
