-- Everything that was stored of one job. A key was written in its job's transaction, so at the same time, by which
-- there is an index.
WITH result AS (DELETE FROM results WHERE job_id = :id),
stream AS (DELETE FROM streams WHERE job_id = :id),
request AS (DELETE FROM requests WHERE job_id = :id),
detail AS (DELETE FROM details WHERE job_id = :id),
turn AS (DELETE FROM turns WHERE job_id = :id),
told AS (
    -- deliveries stay, but without the result
    UPDATE deliveries SET body = event_body(subject_id, type, created_at), includes_result = false
    WHERE subject_id = :id AND (includes_result OR body <> event_body(subject_id, type, created_at))
),
key AS (
    DELETE FROM idempotency i
    USING jobs j
    WHERE j.id = :id AND i.created_at = j.created_at AND i.object_id = j.id AND i.tenant_id = :tenant AND i.kind = 'job'
)
DELETE FROM jobs WHERE id = :id
