-- succeeded -> pending, failed -> pending, pending -> (itself, at once)
-- The schedule begins anew; an attempt in flight is fenced off.
UPDATE deliveries
SET status = 'pending', attempts = 0, pending_since = now(), next_at = now(), lease_token = lease_token + 1
WHERE id = :id AND tenant_id = :tenant
RETURNING id
