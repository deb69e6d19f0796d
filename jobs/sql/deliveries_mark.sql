-- pending -> succeeded, pending -> failed, pending -> (itself, after a while)
-- What became of deliveries, fenced by the lease token. Without a time there was no attempt, without a latency nothing
-- was sent. An endpoint's record is written when it changes only: a failure begins it, a success ends it; 410, and five
-- days of failures alone, disable.
-- `pending_since` stands for the status (a CHECK says so): asked for that, the planner may read all that is pending.
WITH outcome AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:lease_tokens AS int[]), CAST(:statuses AS delivery_status[]), CAST(:delays AS float8[]),
        CAST(:ats AS timestamptz[]), CAST(:latencies AS int[]), CAST(:status_codes AS smallint[]), CAST(:errors AS text[]),
        CAST(:answers AS bytea[])
    ) AS o (id, lease_token, status, delay, at, latency_ms, status_code, error, answer)
),
marked AS (
    UPDATE deliveries
    SET status = o.status,
        attempts = deliveries.attempts + CASE WHEN o.at IS NULL THEN 0 ELSE 1 END,
        pending_since = CASE o.status WHEN 'pending' THEN deliveries.pending_since END,
        next_at = CASE o.status WHEN 'pending' THEN now() + make_interval(secs => o.delay) END
    FROM outcome o
    WHERE deliveries.id = o.id AND deliveries.lease_token = o.lease_token AND deliveries.pending_since IS NOT NULL
    RETURNING deliveries.id, deliveries.endpoint_id, deliveries.test
),
noted AS (
    INSERT INTO delivery_attempts (delivery_id, lease_token, at, latency_ms, status_code, error, answer)
    SELECT o.id, o.lease_token, o.at, o.latency_ms, o.status_code, o.error, o.answer
    FROM outcome o JOIN marked USING (id)
    WHERE o.at IS NOT NULL
),
record AS (
    SELECT m.endpoint_id, bool_or(o.status = 'succeeded') AS good, bool_or(o.status_code = 410) AS gone
    FROM outcome o JOIN marked m USING (id)
    WHERE m.endpoint_id IS NOT NULL AND NOT m.test AND o.latency_ms IS NOT NULL
    GROUP BY m.endpoint_id
),
judged AS (
    UPDATE webhook_endpoints e
    SET failing_since = CASE WHEN NOT r.good THEN coalesce(e.failing_since, now()) END,
        disabled_at = CASE WHEN r.gone OR NOT r.good AND e.failing_since <= now() - interval '5 days'
                           THEN coalesce(e.disabled_at, now()) ELSE e.disabled_at END,
        disabled_reason = CASE WHEN e.disabled_at IS NOT NULL THEN e.disabled_reason
                               WHEN r.gone THEN 'its receiver answered 410 Gone'
                               WHEN NOT r.good AND e.failing_since <= now() - interval '5 days'
                               THEN 'nothing but failures for five days' END
    FROM record r
    WHERE e.id = r.endpoint_id
      AND (r.good = (e.failing_since IS NOT NULL)
           OR e.disabled_at IS NULL AND (r.gone OR e.failing_since <= now() - interval '5 days'))
    RETURNING e.id, e.disabled_reason
)
SELECT id, CAST(NULL AS text) AS disabled_reason FROM marked
UNION ALL
SELECT id, disabled_reason FROM judged WHERE disabled_reason IS NOT NULL
