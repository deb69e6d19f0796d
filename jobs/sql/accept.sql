-- (new) -> queued
-- One flush of submits. Flows are locked first and in id order, as everywhere: flows, jobs by id, batches.
-- Nothing is written unless every flow still exists; the caller then makes the flows anew and sends the flush again.
-- A flush that is sent twice because its commit's answer was lost inserts nothing the second time.
WITH locked AS MATERIALIZED (
    SELECT id FROM flows WHERE id = ANY(CAST(:flows AS bigint[])) ORDER BY id FOR UPDATE
),
incoming AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:flow_ids AS bigint[]), CAST(:tenant_ids AS int[]), CAST(:costs AS int[]),
        CAST(:tiers AS smallint[]), CAST(:timeouts AS int[]), CAST(:flags AS smallint[]), CAST(:expires AS int[]),
        CAST(:endpoints AS text[]), CAST(:models AS text[]), CAST(:bodies AS bytea[]), CAST(:metadata AS text[]),
        CAST(:service_tiers AS text[]), CAST(:retries AS uuid[]), CAST(:repeat_hashes AS bytea[]), CAST(:previous AS uuid[]),
        CAST(:traceparents AS text[])
    ) AS i (id, flow_id, tenant_id, cost, tier, timeout_s, flags, expires_s, endpoint, model, body, metadata,
            service_tier, retry_of, repeat_hash, previous_id, traceparent)
    WHERE (SELECT count(*) FROM locked) = cardinality(CAST(:flows AS bigint[]))
),
inserted AS (
    INSERT INTO jobs (id, flow_id, tenant_id, cost, tier, timeout_s, flags, place, expires_at)
    SELECT id, flow_id, tenant_id, cost, tier, timeout_s, flags, uuid_send(id), now() + make_interval(secs => expires_s)
    FROM incoming
    ON CONFLICT (id) DO NOTHING
    RETURNING id, flow_id, place
),
stored AS (
    INSERT INTO requests (job_id, endpoint, model, body, previous_id)
    SELECT id, endpoint, model, body, previous_id FROM incoming JOIN inserted USING (id)
),
described AS (
    INSERT INTO details (job_id, metadata, service_tier, retry_of, traceparent)
    SELECT id, CAST(metadata AS jsonb), service_tier, retry_of, traceparent
    FROM incoming JOIN inserted USING (id)
    WHERE metadata IS NOT NULL OR service_tier IS NOT NULL OR retry_of IS NOT NULL OR traceparent IS NOT NULL
),
awaited AS (
    INSERT INTO repeats (job_id, tenant_id, body_hash)
    SELECT id, tenant_id, repeat_hash FROM incoming JOIN inserted USING (id) WHERE repeat_hash IS NOT NULL
),
hooked AS (
    INSERT INTO own_webhooks (subject_id, lane, event_types, includes_result, target)
    SELECT id, lane, string_to_array(event_types, ' '), includes_result, target
    FROM unnest(
        CAST(:hooked AS uuid[]), CAST(:hook_lanes AS bigint[]), CAST(:hook_events AS text[]),
        CAST(:hook_includes AS boolean[]), CAST(:hook_targets AS bytea[])
    ) AS h (id, lane, event_types, includes_result, target)
    JOIN inserted USING (id)
),
entering AS (
    SELECT flow_id, place FROM inserted
),
-- include: opened
SELECT (SELECT count(*) FROM locked) AS locked
