-- A worker that was given up for lost, and its row with it, comes back the same way.
INSERT INTO workers (id, model_id, registration, slots, host, pid, home, lease_until)
VALUES (:worker, :model, CAST(:registration AS jsonb), :slots, :host, :pid, :home,
        now() + make_interval(secs => :lease))
ON CONFLICT (id) DO UPDATE
SET registration = excluded.registration, slots = excluded.slots, lease_until = excluded.lease_until, draining = false
