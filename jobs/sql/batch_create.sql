-- (new) -> validating
INSERT INTO batches (id, tenant_id, endpoint, input_file_id, completion_window, metadata, output_expires_s, retry_of, expires_at)
VALUES (:id, :tenant, :endpoint, :input, :window, CAST(CAST(:metadata AS text) AS jsonb), CAST(:output_expires AS int),
        CAST(:retry_of AS uuid), now() + make_interval(secs => CAST(:seconds AS int)))
