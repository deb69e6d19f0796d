-- Names that belong to another engine, alive or not.
SELECT n.name, m.name AS model
FROM model_names n JOIN models m ON m.id = n.model_id
WHERE n.name = ANY(CAST(:names AS text[])) AND m.name <> :model
ORDER BY array_position(CAST(:names AS text[]), n.name)
LIMIT 1
