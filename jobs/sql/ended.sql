-- The terminal gate: every statement that ends jobs closes with this. `ended` says which, how, and which were queued.
-- A batch whose last line ends is ready to be finalised. Lock order: flows, jobs by id, batches.
closed AS (
    UPDATE flows
    SET queued = flows.queued - d.k, open = flows.queued - d.k > 0
    FROM (SELECT flow_id, count(*) AS k FROM ended WHERE was_queued GROUP BY flow_id) d
    WHERE flows.id = d.flow_id
),
answered AS MATERIALIZED (
    SELECT l.batch_id, l.line, e.status, row_number() OVER (PARTITION BY l.batch_id ORDER BY l.line) AS place
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
        status = CASE WHEN b.status = 'in_progress' AND b.ended + d.k = b.total THEN 'finalizing' ELSE b.status END,
        finalizing_at = CASE WHEN b.ended + d.k = b.total THEN now() END
    FROM (
        SELECT batch_id, count(*) AS k, count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE status = 'failed') AS failed
        FROM answered GROUP BY batch_id
    ) d
    WHERE b.id = d.batch_id AND (SELECT count(*) FROM held) > 0
    RETURNING b.id, b.ended - d.k AS before
),
numbered AS (
    UPDATE lines
    SET status = a.status, ended = c.before + a.place
    FROM answered a JOIN counted c ON c.id = a.batch_id
    WHERE lines.batch_id = a.batch_id AND lines.line = a.line
)
SELECT id, flags FROM ended
