UPDATE repeats
SET taken = :repeat, abandoned_at = NULL
WHERE job_id = (
        SELECT r.job_id
        FROM repeats r JOIN jobs j ON j.id = r.job_id
        WHERE r.tenant_id = :tenant AND r.body_hash = :body_hash AND r.taken < :repeat
          AND (r.abandoned_at IS NOT NULL AND j.status <> 'cancelled' OR j.status IN ('queued', 'in_progress'))
        ORDER BY r.abandoned_at IS NULL, r.job_id
        LIMIT 1
        FOR UPDATE OF r
    )
RETURNING job_id
