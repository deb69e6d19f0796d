-- Deliveries made before :bound that wait for nothing, with their attempts, five thousand at most.
WITH gone AS MATERIALIZED (
    SELECT id FROM deliveries
    WHERE id < CAST(:bound AS uuid) AND status <> 'pending'
    ORDER BY id
    LIMIT 5000
    FOR UPDATE SKIP LOCKED
),
attempts_gone AS (
    DELETE FROM delivery_attempts WHERE delivery_id = ANY(ARRAY(SELECT id FROM gone))
)
DELETE FROM deliveries WHERE id = ANY(ARRAY(SELECT id FROM gone)) RETURNING id
