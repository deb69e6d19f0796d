-- Lock the flows of the turns that wait for these jobs. What follows takes a new snapshot, and touches only these flows.
SELECT id
FROM flows
WHERE id IN (SELECT flow_id FROM jobs WHERE blocked_on = ANY(CAST(:ids AS uuid[])) AND status = 'queued')
ORDER BY id
FOR UPDATE
