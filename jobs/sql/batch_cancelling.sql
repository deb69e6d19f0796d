-- validating -> cancelling, in_progress -> cancelling, finalizing -> cancelling
UPDATE batches SET status = 'cancelling', ending = 'cancelled', cancelling_at = now()
WHERE id = :id AND tenant_id = :tenant AND status IN ('validating', 'in_progress', 'finalizing')
RETURNING id
