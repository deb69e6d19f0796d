-- Its names are free again; its jobs that still wait are ended by whoever looks next.
WITH gone AS (
    UPDATE models SET retired_at = now()
    WHERE id = :model AND retired_at IS NULL
      AND NOT EXISTS (SELECT FROM workers w WHERE w.model_id = :model AND w.lease_until > now())
    RETURNING id
),
freed AS (
    DELETE FROM model_names WHERE model_id IN (SELECT id FROM gone)
)
SELECT id FROM gone
