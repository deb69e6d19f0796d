-- Where webhooks go, those first that fail, and one thing that was stored encrypted, if any was.
SELECT e.url, e.tenant_id, (SELECT s.secret FROM webhook_secrets s WHERE s.endpoint_id = e.id LIMIT 1) AS secret
FROM webhook_endpoints e
WHERE e.disabled_at IS NULL
ORDER BY e.failing_since NULLS LAST, e.id DESC
LIMIT 20
