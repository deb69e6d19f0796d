-- How webhooks fare: deliveries that were due five minutes ago and nobody has claimed (a thousand at most), and endpoints
-- that take nothing, or were given up.
SELECT (SELECT count(*) FROM (
            SELECT FROM deliveries WHERE status = 'pending' AND next_at < now() - interval '5 minutes' LIMIT 1000) d)::int AS late,
       (SELECT count(*) FROM webhook_endpoints WHERE disabled_at IS NULL AND failing_since < now() - interval '1 hour')::int AS failing,
       (SELECT count(*) FROM webhook_endpoints WHERE disabled_reason IS NOT NULL)::int AS disabled
