-- Removed before it is cancelled: no repeat finds a job that is about to end.
DELETE FROM repeats WHERE job_id = :job AND taken = :repeat AND abandoned_at IS NULL RETURNING job_id
