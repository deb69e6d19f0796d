-- The log of an ended job's stream.
SELECT run, first, body FROM streams WHERE job_id = :id
