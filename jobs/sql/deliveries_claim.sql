-- What is due, a few of each lane, so that no receiver's backlog hides another's. Lanes are found one by one by their
-- index; `full` are those that can take no more now, and `crowded` are tenants of whom enough is under way. A lane is of
-- one tenant. A claim is a date on which it may be claimed again.
WITH RECURSIVE lanes AS (
    (SELECT lane, tenant_id FROM deliveries WHERE status = 'pending' ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT n.lane, n.tenant_id
    FROM lanes l
    CROSS JOIN LATERAL (
        SELECT d.lane, d.tenant_id FROM deliveries d WHERE d.status = 'pending' AND d.lane > l.lane ORDER BY d.lane LIMIT 1
    ) n
),
due AS MATERIALIZED (
    SELECT d.id
    FROM lanes l
    CROSS JOIN LATERAL (
        SELECT id FROM deliveries
        WHERE status = 'pending' AND lane = l.lane AND next_at <= now()
        ORDER BY next_at
        LIMIT CASE WHEN l.lane = ANY(CAST(:quick AS bigint[])) THEN CAST(:many AS int) ELSE CAST(:few AS int) END
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE l.lane <> ALL(CAST(:full AS bigint[])) AND l.tenant_id <> ALL(CAST(:crowded AS int[]))
    LIMIT :most
),
claimed AS (
    UPDATE deliveries
    SET lease_token = lease_token + 1, next_at = now() + make_interval(secs => :lease)
    WHERE id = ANY(ARRAY(SELECT id FROM due))
    RETURNING *
)
SELECT c.id, c.lease_token, c.lane, c.tenant_id, c.subject_id, c.attempts, c.includes_result, c.test, c.type, c.body,
       e.url, e.headers, e.disabled_reason, o.target, d.traceparent,
       ARRAY(
           SELECT s.secret FROM webhook_secrets s
           WHERE s.endpoint_id = c.endpoint_id AND (s.expires_at IS NULL OR s.expires_at > now())
           UNION ALL
           SELECT s.secret FROM webhook_secrets s
           WHERE c.endpoint_id IS NULL AND s.endpoint_id IS NULL AND s.tenant_id = c.tenant_id
             AND (s.expires_at IS NULL OR s.expires_at > now())
       ) AS secrets
FROM claimed c
LEFT JOIN webhook_endpoints e ON e.id = c.endpoint_id
LEFT JOIN own_webhooks o ON c.endpoint_id IS NULL AND o.subject_id = c.subject_id
LEFT JOIN details d ON d.job_id = c.subject_id
ORDER BY c.created_at
