-- The ids of the flows of these keys; a key without a flow has no row.
SELECT f.id, f.model_id, f.tier, f.tenant_id, f.waited, f.batch_id
FROM unnest(CAST(:models AS int[]), CAST(:tiers AS smallint[]), CAST(:tenants AS int[]), CAST(:waited AS boolean[]),
            CAST(:batches AS uuid[])) AS w (model_id, tier, tenant_id, waited, batch_id)
JOIN flows f ON f.model_id = w.model_id AND f.tier = w.tier AND f.tenant_id = w.tenant_id AND f.waited = w.waited
            AND f.batch_id IS NOT DISTINCT FROM w.batch_id
