-- The jobs of a lost worker, with the key of the suspect flow that each would move to.
SELECT j.id, f.model_id, f.tenant_id, f.waited, f.batch_id, j.losses >= 1 AND f.tier <> 4 AS moves,
       j.lease_token, j.flags & 16 <> 0 AS streams
FROM jobs j JOIN flows f ON f.id = j.flow_id
WHERE j.worker_id = :worker AND j.status = 'in_progress'
ORDER BY j.id
