UPDATE repeats SET abandoned_at = now() WHERE job_id = :job AND taken = :repeat AND abandoned_at IS NULL RETURNING job_id
