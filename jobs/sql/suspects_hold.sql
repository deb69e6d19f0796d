-- Make this worker the one that serves its model's suspect lane, if something waits there and no living worker does.
UPDATE lanes
SET holder = :worker
WHERE model_id = :model AND tier = 4
  AND EXISTS (SELECT FROM flows f JOIN tenants t ON t.id = f.tenant_id
              WHERE f.model_id = :model AND f.tier = 4 AND f.open AND NOT f.paused AND NOT t.paused)
  AND (holder IS NULL OR holder = :worker
       OR NOT EXISTS (SELECT FROM workers w WHERE w.id = holder AND w.lease_until > now()))
RETURNING holder
