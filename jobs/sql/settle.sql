-- Flows pay, or get back, the difference between what their jobs were estimated to cost and what they did cost.
WITH due AS (
    SELECT flow_id, sum(time) AS time
    FROM unnest(CAST(:flow_ids AS bigint[]), CAST(:times AS double precision[])) AS d (flow_id, time)
    GROUP BY flow_id
),
locked AS MATERIALIZED (
    SELECT id FROM flows WHERE id IN (SELECT flow_id FROM due) ORDER BY id FOR UPDATE
)
UPDATE flows
SET vtime = flows.vtime + d.time
FROM due d JOIN locked l ON l.id = d.flow_id
WHERE flows.id = d.flow_id
