INSERT INTO webhook_secrets (tenant_id, endpoint_id, secret, hint) VALUES (:tenant, CAST(:endpoint AS uuid), :secret, :hint)
