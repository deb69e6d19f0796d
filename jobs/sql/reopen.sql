reopened AS (
    UPDATE flows
    SET queued = flows.queued + d.k, open = true, cursor = least(flows.cursor, d.place)
    FROM (SELECT flow_id, count(*) AS k, (array_agg(place ORDER BY place))[1] AS place FROM released GROUP BY flow_id) d
    WHERE flows.id = d.flow_id
)
