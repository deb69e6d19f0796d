-- Lock the flows of these jobs. What follows in the transaction takes a new snapshot, and touches only these flows.
SELECT id
FROM flows
WHERE id IN (SELECT flow_id FROM jobs WHERE jobs.id = ANY(CAST(:ids AS uuid[])))
ORDER BY id
FOR UPDATE
