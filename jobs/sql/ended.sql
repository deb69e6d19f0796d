-- The terminal gate: every statement that ends jobs closes with this. `ended` says which, how, which were queued, and
-- each one's input, cached, output and reasoning tokens, if it ran. To its batch they count once: not for copies.
-- A batch whose last line ends is ready to be finalised. Lock order: flows, jobs by id, batches.
-- Flags: 1 its own webhook, 2 lines, 32 its end is told, 64 of a response, 128 that is incomplete.
closed AS (
    UPDATE flows
    SET queued = flows.queued - d.k, open = flows.queued - d.k > 0
    FROM (SELECT flow_id, count(*) AS k FROM ended WHERE was_queued GROUP BY flow_id) d
    WHERE flows.id = d.flow_id
),
answered AS MATERIALIZED (
    SELECT l.batch_id, l.line, e.status, row_number() OVER (PARTITION BY l.batch_id ORDER BY l.line) AS place,
           CASE WHEN l.copy_of IS NULL THEN e.tokens END AS tokens
    FROM ended e JOIN lines l ON l.job_id = e.id
    WHERE e.flags & 2 <> 0
),
held AS MATERIALIZED (
    SELECT id FROM batches WHERE id IN (SELECT batch_id FROM answered) ORDER BY id FOR UPDATE
),
counted AS (
    UPDATE batches b
    SET ended = b.ended + d.k,
        completed = b.completed + d.completed,
        failed = b.failed + d.failed,
        input_tokens = b.input_tokens + d.input,
        cached_tokens = b.cached_tokens + d.cached,
        output_tokens = b.output_tokens + d.output,
        reasoning_tokens = b.reasoning_tokens + d.reasoning,
        status = CASE WHEN b.status = 'in_progress' AND b.ended + d.k = b.total THEN 'finalizing' ELSE b.status END,
        finalizing_at = CASE WHEN b.ended + d.k = b.total THEN now() END
    FROM (
        SELECT batch_id, count(*) AS k, count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               coalesce(sum(tokens[1]), 0) AS input, coalesce(sum(tokens[2]), 0) AS cached,
               coalesce(sum(tokens[3]), 0) AS output, coalesce(sum(tokens[4]), 0) AS reasoning
        FROM answered GROUP BY batch_id
    ) d
    WHERE b.id = d.batch_id AND (SELECT count(*) FROM held) > 0
    RETURNING b.id, b.ended - d.k AS before, b.ended = b.total AS ready
),
numbered AS (
    UPDATE lines
    SET status = a.status, ended = c.before + a.place
    FROM answered a JOIN counted c ON c.id = a.batch_id
    WHERE lines.batch_id = a.batch_id AND lines.line = a.line
),
news AS (
    SELECT id AS subject_id, tenant_id, 'job.' || status AS type, flags & 1 <> 0 AS own FROM ended WHERE flags & 32 <> 0
    UNION ALL
    SELECT id, tenant_id,
           'response.' || CASE WHEN flags & 128 <> 0 THEN 'incomplete' WHEN status = 'expired' THEN 'failed'
                               ELSE CAST(status AS text) END,
           flags & 1 <> 0
    FROM ended WHERE flags & 64 <> 0
),
-- include: tell
SELECT id, flags, (SELECT count(*) FROM told) AS told, (SELECT count(*) FROM counted WHERE ready) AS ready FROM ended
