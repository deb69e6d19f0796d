-- Everything that was stored of one job.
WITH result AS (DELETE FROM results WHERE job_id = :id),
request AS (DELETE FROM requests WHERE job_id = :id),
detail AS (DELETE FROM details WHERE job_id = :id),
key AS (DELETE FROM idempotency WHERE object_id = :id AND kind = 'job' AND tenant_id = :tenant)
DELETE FROM jobs WHERE id = :id
