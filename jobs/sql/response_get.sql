-- A response that its client asked to keep (flag 256: it did not), whatever became of it.
SELECT j.id, j.status, j.flags, r.model, r.body AS request, r.previous_id, d.service_tier,
       o.status_code, o.body AS response, o.error_code, o.error_message
FROM jobs j
JOIN requests r ON r.job_id = j.id AND r.endpoint = '/v1/responses'
LEFT JOIN results o ON o.job_id = j.id
LEFT JOIN details d ON d.job_id = j.id
WHERE j.id = :id AND j.tenant_id = :tenant AND j.flags & 256 = 0
