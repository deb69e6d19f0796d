SELECT delivery_id, at, latency_ms, status_code, error, answer
FROM delivery_attempts
WHERE delivery_id = ANY(CAST(:ids AS uuid[]))
ORDER BY delivery_id, lease_token
