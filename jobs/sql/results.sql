-- Ended jobs of these ids with their results, if they have any. The bounds let the server skip every partition but theirs.
SELECT j.id, j.status, r.status_code, r.body, r.error_code, r.error_message
FROM jobs j
LEFT JOIN results r ON r.job_id = j.id AND r.job_id >= CAST(:first AS uuid) AND r.job_id <= CAST(:last AS uuid)
WHERE j.id = ANY(CAST(:ids AS uuid[])) AND j.status NOT IN ('queued', 'in_progress')
