-- Of the next five thousand ended jobs behind :after and made before :bound those that no line wants, with everything
-- that is stored of them. After purge_lines.sql: the line's batch is under way. Flags: 2 lines.
WITH page AS MATERIALIZED (
    SELECT id, flags FROM jobs
    WHERE id > CAST(:after AS uuid) AND id < CAST(:bound AS uuid) AND status NOT IN ('queued', 'in_progress')
    ORDER BY id
    LIMIT 5000
),
-- Not by EXISTS, for which the server might read all lines into a hash.
unwanted AS MATERIALIZED (
    SELECT id FROM page p
    WHERE flags & 2 = 0 OR (SELECT l.line FROM lines l WHERE l.job_id = p.id LIMIT 1) IS NULL
),
gone AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM unwanted)) ORDER BY id FOR UPDATE SKIP LOCKED
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
),
jobs_gone AS (
    DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM gone))
)
SELECT id AS last, (SELECT count(*) FROM gone) AS gone FROM page ORDER BY id DESC LIMIT 1
