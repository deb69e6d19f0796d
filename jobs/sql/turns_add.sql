-- The next turns of conversations, in the order of the arrays. Each waits for the newest turn before it that has not
-- ended, and is out of its flow's count until then. After turns_lock.sql, accept.sql, which locked the flows, and
-- turns_hold.sql.
WITH incoming AS MATERIALIZED (
    SELECT i.*, coalesce((
               SELECT max(turn) FROM turns t WHERE t.tenant_id = i.tenant_id AND t.conversation = i.conversation
           ), 0) AS last
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tenants AS int[]), CAST(:conversations AS text[]))
         WITH ORDINALITY AS i (job_id, tenant_id, conversation, place)
    -- a flush that is sent twice has added them already
    WHERE NOT EXISTS (SELECT FROM turns t WHERE t.job_id = i.job_id)
),
placed AS MATERIALIZED (
    SELECT i.job_id, i.tenant_id, i.conversation, i.last + row_number() OVER w AS turn,
           coalesce(lag(i.job_id) OVER w, (
               SELECT j.id FROM turns t JOIN jobs j ON j.id = t.job_id
               WHERE t.tenant_id = i.tenant_id AND t.conversation = i.conversation
                 AND j.status IN ('queued', 'in_progress')
               ORDER BY t.turn DESC LIMIT 1
           )) AS previous
    FROM incoming i
    WINDOW w AS (PARTITION BY i.tenant_id, i.conversation ORDER BY i.place)
),
added AS (
    INSERT INTO turns (tenant_id, conversation, turn, job_id) SELECT tenant_id, conversation, turn, job_id FROM placed
),
chained AS (
    UPDATE jobs
    SET blocked_on = coalesce(c.previous, jobs.blocked_on), flags = jobs.flags | c.flags
    FROM (
        SELECT id, (array_agg(previous) FILTER (WHERE previous IS NOT NULL))[1] AS previous,
               CAST(max(flags) AS smallint) AS flags
        FROM (
            SELECT job_id AS id, previous, 0 AS flags FROM placed WHERE previous IS NOT NULL
            UNION ALL
            SELECT previous, NULL, 4 FROM placed WHERE previous IS NOT NULL
        ) links
        GROUP BY id
    ) c
    WHERE jobs.id = c.id
)
UPDATE flows
SET queued = flows.queued - d.k, open = flows.queued - d.k > 0
FROM (
    SELECT j.flow_id, count(*) AS k
    FROM placed p JOIN jobs j ON j.id = p.job_id
    WHERE p.previous IS NOT NULL
    GROUP BY j.flow_id
) d
WHERE flows.id = d.flow_id
