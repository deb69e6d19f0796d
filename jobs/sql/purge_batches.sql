-- After purge_lines.sql: the batches themselves, with their flows.
WITH gone AS (
    DELETE FROM batches b
    WHERE b.id < CAST(:bound AS uuid) AND b.status IN ('failed', 'completed', 'expired', 'cancelled')
      AND NOT EXISTS (SELECT FROM lines l WHERE l.batch_id = b.id)
    RETURNING b.id
),
flows_gone AS (
    DELETE FROM flows WHERE batch_id IN (SELECT id FROM gone) AND NOT open
)
SELECT id FROM gone
