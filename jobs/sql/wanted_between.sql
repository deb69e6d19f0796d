-- A job of these ids that a line wants, or that has not ended. After purge_lines.sql: the line's batch is under way.
(
    SELECT job_id AS id FROM lines
    WHERE job_id >= CAST(:lower AS uuid) AND job_id < CAST(:upper AS uuid)
    ORDER BY job_id LIMIT 1
)
UNION ALL
SELECT id FROM jobs
WHERE id >= CAST(:lower AS uuid) AND id < CAST(:upper AS uuid) AND status IN ('queued', 'in_progress')
LIMIT 1
