-- A worker whose lease is still expired, held so until its jobs are taken: its renewal waits.
SELECT id FROM workers WHERE id = :worker AND lease_until <= now() FOR UPDATE
