-- What this worker holds: it aborts the rest, and hands back what it does not know.
SELECT id, lease_token FROM jobs WHERE worker_id = :worker AND status = 'in_progress'
