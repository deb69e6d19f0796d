-- What `news` tells (subject_id, tenant_id, type, own) goes to whoever listens, in the transaction of the news itself.
told AS (
    INSERT INTO deliveries (id, subject_id, endpoint_id, tenant_id, lane, includes_result, type, body)
    SELECT new_id(), n.subject_id, w.endpoint_id, n.tenant_id, w.lane, w.includes_result, n.type,
           event_body(n.subject_id, n.type, now())
    FROM news n
    CROSS JOIN LATERAL (
        SELECT e.id AS endpoint_id, e.lane, false AS includes_result
        FROM webhook_endpoints e
        WHERE e.tenant_id = n.tenant_id AND e.disabled_at IS NULL AND n.type = ANY(e.event_types)
        UNION ALL
        SELECT NULL, o.lane, o.includes_result AND n.type <> 'job.started'
        FROM own_webhooks o
        WHERE n.own AND o.subject_id = n.subject_id AND n.type = ANY(o.event_types)
    ) w
    RETURNING id
)
