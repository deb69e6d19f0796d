-- In a lane of its own: whoever tests wants to know at once, also of a receiver that is left alone because it was down.
INSERT INTO deliveries (id, subject_id, endpoint_id, tenant_id, lane, test, type, body)
SELECT new_id(), CAST(:subject AS uuid), e.id, e.tenant_id, hashtextextended(CAST(CAST(:subject AS uuid) AS text), 0), true, :type, event_body(CAST(:subject AS uuid), :type, now())
FROM webhook_endpoints e
WHERE e.id = :endpoint AND e.tenant_id = :tenant
RETURNING id
