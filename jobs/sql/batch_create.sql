-- (new) -> validating
WITH created AS (
    INSERT INTO batches (id, tenant_id, endpoint, input_file_id, completion_window, metadata, output_expires_s, retry_of,
                         expires_at)
    VALUES (:id, :tenant, :endpoint, :input, :window, CAST(CAST(:metadata AS text) AS jsonb), CAST(:output_expires AS int),
            CAST(:retry_of AS uuid), now() + make_interval(secs => CAST(:seconds AS int)))
)
INSERT INTO own_webhooks (subject_id, lane, event_types, includes_result, target)
SELECT id, lane, string_to_array(event_types, ' '), includes_result, target
FROM unnest(
    CAST(:hooked AS uuid[]), CAST(:hook_lanes AS bigint[]), CAST(:hook_events AS text[]), CAST(:hook_includes AS boolean[]),
    CAST(:hook_targets AS bytea[])
) AS h (id, lane, event_types, includes_result, target)
