DELETE FROM repeats WHERE job_id = :job
