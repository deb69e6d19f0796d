-- The lines of a batch whose lines have all ended, those that completed or the others, in their order, with results.
SELECT l.line, l.custom_id, l.job_id, l.ended, l.status, r.status_code, r.body, r.error_code, r.error_message,
       (SELECT ending FROM batches WHERE id = :batch) AS ending,
       coalesce(r.input_tokens, 0) AS input_tokens, coalesce(r.cached_tokens, 0) AS cached_tokens,
       coalesce(r.output_tokens, 0) AS output_tokens, coalesce(r.reasoning_tokens, 0) AS reasoning_tokens, o.custom_id AS copy_of
FROM (
    SELECT * FROM lines
    WHERE batch_id = :batch AND line > :after AND (status = 'completed') = :completed
    ORDER BY line LIMIT :limit
) l
LEFT JOIN results r ON r.job_id = l.job_id
LEFT JOIN lines o ON o.batch_id = l.batch_id AND o.line = l.copy_of
ORDER BY l.line
