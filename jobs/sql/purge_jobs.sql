-- Ended jobs made before :bound with everything that is stored of them, five thousand at most.
WITH gone AS MATERIALIZED (
    SELECT id FROM jobs
    WHERE id < CAST(:bound AS uuid) AND status NOT IN ('queued', 'in_progress')
    ORDER BY id
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
),
requests_gone AS (
    DELETE FROM requests WHERE job_id = ANY(ARRAY(SELECT id FROM gone)) AND job_id < CAST(:bound AS uuid)
),
results_gone AS (
    DELETE FROM results WHERE job_id = ANY(ARRAY(SELECT id FROM gone)) AND job_id < CAST(:bound AS uuid)
),
streams_gone AS (
    DELETE FROM streams WHERE job_id = ANY(ARRAY(SELECT id FROM gone)) AND job_id < CAST(:bound AS uuid)
),
turns_gone AS (
    DELETE FROM turns WHERE job_id = ANY(ARRAY(SELECT id FROM gone))
),
details_gone AS (
    DELETE FROM details WHERE job_id = ANY(ARRAY(SELECT id FROM gone))
)
DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM gone)) RETURNING id
