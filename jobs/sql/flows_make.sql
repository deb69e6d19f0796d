-- The flows of these keys, made where they do not exist yet. A flow's lane is made with it.
WITH wanted AS (
    SELECT DISTINCT *
    FROM unnest(CAST(:models AS int[]), CAST(:tiers AS smallint[]), CAST(:tenants AS int[]), CAST(:waited AS boolean[]),
                CAST(:batches AS uuid[])) AS w (model_id, tier, tenant_id, waited, batch_id)
),
lane AS (
    INSERT INTO lanes (model_id, tier) SELECT DISTINCT model_id, tier FROM wanted ORDER BY 1, 2 ON CONFLICT DO NOTHING
)
INSERT INTO flows (model_id, tier, tenant_id, waited, batch_id)
SELECT * FROM wanted ORDER BY 1, 2, 3, 4, 5
ON CONFLICT DO NOTHING
