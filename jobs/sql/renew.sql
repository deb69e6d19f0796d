-- A worker lives for one more lease, on the database's clock.
UPDATE workers
SET lease_until = now() + make_interval(secs => :lease), slots = :slots, draining = :draining
WHERE id = :worker
RETURNING id
