SELECT secret FROM webhook_secrets WHERE tenant_id = :tenant AND endpoint_id IS NULL AND expires_at IS NULL
