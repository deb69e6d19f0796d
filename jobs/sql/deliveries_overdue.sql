-- pending -> failed
-- What has waited longer than the whole schedule takes: its receiver was down most of the time.
UPDATE deliveries
SET status = 'failed', pending_since = NULL, next_at = NULL, lease_token = lease_token + 1
WHERE status = 'pending' AND pending_since <= now() - interval '5 days'
RETURNING id
