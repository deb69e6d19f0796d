-- What a stream had said when its job was cancelled.
INSERT INTO streams (job_id, run, first, body)
VALUES (:id, :run, :first, CAST(:body AS bytea))
ON CONFLICT (job_id) DO NOTHING
