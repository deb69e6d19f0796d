-- The requests of claimed jobs. The two bounds let the server skip every partition but theirs.
SELECT r.job_id, r.endpoint, r.body, d.service_tier
FROM requests r LEFT JOIN details d ON d.job_id = r.job_id
WHERE r.job_id = ANY(CAST(:ids AS uuid[])) AND r.job_id >= CAST(:first AS uuid) AND r.job_id <= CAST(:last AS uuid)
