SELECT *, event_id(subject_id, type) AS event_id FROM deliveries WHERE id = :id AND tenant_id = :tenant
