-- The engine's names: those of this registration, and those that its live workers still answer to.
-- A name may have two kinds: the later in the alphabet counts, primary before alias before adapter.
WITH wanted AS (
    SELECT name, max(kind) AS kind
    FROM (
        SELECT * FROM unnest(CAST(:names AS text[]), CAST(:kinds AS text[])) AS n (name, kind)
        UNION ALL
        SELECT jsonb_array_elements_text(registration -> 'aliases'), 'alias'
        FROM workers WHERE model_id = :model AND lease_until > now()
        UNION ALL
        SELECT jsonb_array_elements_text(registration -> 'adapters'), 'adapter'
        FROM workers WHERE model_id = :model AND lease_until > now()
    ) every
    GROUP BY name
),
dropped AS (
    DELETE FROM model_names n WHERE model_id = :model AND NOT EXISTS (SELECT FROM wanted w WHERE w.name = n.name)
)
INSERT INTO model_names (name, model_id, kind)
SELECT name, :model, kind FROM wanted
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind WHERE model_names.model_id = excluded.model_id
