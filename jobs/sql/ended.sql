-- The terminal gate: every statement that ends jobs closes with this. `ended` says which, and which were still queued.
closed AS (
    UPDATE flows
    SET queued = flows.queued - d.k, open = flows.queued - d.k > 0
    FROM (SELECT flow_id, count(*) AS k FROM ended WHERE was_queued GROUP BY flow_id) d
    WHERE flows.id = d.flow_id
)
SELECT id, flags FROM ended
