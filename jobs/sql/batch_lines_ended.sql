-- The lines of a batch that ended after the :after-th, in the order in which they did, with their results.
SELECT l.line, l.custom_id, l.job_id, l.ended, l.status, r.status_code, r.body, r.error_code, r.error_message,
       (SELECT ending FROM batches WHERE id = :batch) AS ending,
       coalesce(r.input_tokens, 0) AS input_tokens, coalesce(r.cached_tokens, 0) AS cached_tokens,
       coalesce(r.output_tokens, 0) AS output_tokens, coalesce(r.reasoning_tokens, 0) AS reasoning_tokens, o.custom_id AS copy_of,
       q.body AS request
FROM (
    SELECT * FROM lines
    WHERE batch_id = :batch AND ended > :after
      AND (CAST(:status AS job_status) IS NULL OR status = CAST(:status AS job_status))
      AND (CAST(:custom_id AS text) IS NULL OR custom_id = CAST(:custom_id AS text))
    ORDER BY ended LIMIT :limit
) l
LEFT JOIN results r ON r.job_id = l.job_id
LEFT JOIN requests q ON :with_input AND q.job_id = l.job_id
LEFT JOIN lines o ON o.batch_id = l.batch_id AND o.line = l.copy_of
ORDER BY l.ended
