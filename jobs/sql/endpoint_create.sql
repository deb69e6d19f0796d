-- An endpoint with its first secret, unless its tenant has :most. Some that are made at one moment may be too many.
WITH made AS (
    INSERT INTO webhook_endpoints (id, tenant_id, name, url, event_types, header_names, headers, lane)
    SELECT CAST(:id AS uuid), :tenant, :label, :url, CAST(:event_types AS text[]), CAST(:header_names AS text[]),
           CAST(:headers AS bytea), :lane
    WHERE (SELECT count(*) FROM webhook_endpoints WHERE tenant_id = :tenant) < :most
    RETURNING *
),
signing AS (
    INSERT INTO webhook_secrets (tenant_id, endpoint_id, secret, hint)
    SELECT tenant_id, id, :secret, :hint FROM made
    RETURNING endpoint_id, hint
)
SELECT m.*, s.hint FROM made m JOIN signing s ON s.endpoint_id = m.id
