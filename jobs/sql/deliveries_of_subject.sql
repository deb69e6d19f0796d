SELECT *, event_id(subject_id, type) AS event_id FROM deliveries
WHERE subject_id = :subject AND tenant_id = :tenant AND id < CAST(:before AS uuid)
ORDER BY id DESC
LIMIT :limit
