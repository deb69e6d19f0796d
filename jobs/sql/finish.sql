-- in_progress -> completed, in_progress -> failed
-- Fenced by the lease token: who lost the job writes nothing. A worker_id stands for in_progress (a CHECK says so):
-- asked for the status, the planner may look through jobs_running, which holds every running and many a dead row.
WITH outcome AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:lease_tokens AS int[]), CAST(:statuses AS job_status[]), CAST(:status_codes AS smallint[]),
        CAST(:bodies AS bytea[]), CAST(:error_codes AS text[]), CAST(:error_messages AS text[]), CAST(:input AS int[]),
        CAST(:cached AS int[]), CAST(:output AS int[]), CAST(:reasoning AS int[]), CAST(:incomplete AS boolean[])
    ) AS o (id, lease_token, status, status_code, body, error_code, error_message, input, cached, output, reasoning,
            incomplete)
),
ended AS (
    UPDATE jobs
    SET status = o.status, finished_at = now(), worker_id = NULL
    FROM outcome o
    WHERE jobs.id = o.id AND jobs.lease_token = o.lease_token AND jobs.worker_id IS NOT NULL
    RETURNING jobs.id, jobs.flow_id, jobs.tenant_id, jobs.flags | CASE WHEN o.incomplete THEN 128 ELSE 0 END AS flags,
              jobs.status, false AS was_queued, ARRAY[o.input, o.cached, o.output, o.reasoning] AS tokens
),
stored AS (
    INSERT INTO results (job_id, status_code, body, error_code, error_message, input_tokens, cached_tokens, output_tokens,
                         reasoning_tokens)
    SELECT o.id, o.status_code, o.body, o.error_code, o.error_message, o.input, o.cached, o.output, o.reasoning
    FROM outcome o JOIN ended USING (id)
),
said AS (
    INSERT INTO streams (job_id, run, first, body)
    SELECT id, run, first, body
    FROM unnest(
        CAST(:logged AS uuid[]), CAST(:log_runs AS int[]), CAST(:log_firsts AS int[]), CAST(:log_bodies AS bytea[])
    ) AS l (id, run, first, body)
    JOIN ended USING (id)
),
-- include: ended
