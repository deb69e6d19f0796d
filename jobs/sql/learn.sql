-- What jobs that ended have taught: a lane's mean output and speed, a model's bytes per token. Moving averages.
-- The speed is that of all workers together while jobs wait, between two moments a second or more apart at both of which
-- they do: a lane that is not full says nothing about how fast it could be. The first measure stands alone.
WITH seen AS (
    SELECT *
    FROM unnest(CAST(:tiers AS smallint[]), CAST(:jobs AS int[]), CAST(:outputs AS bigint[]), CAST(:inputs AS bigint[]),
                CAST(:bytes AS bigint[])) AS s (tier, jobs, output, input, bytes)
),
model AS (
    UPDATE models
    SET bytes_per_token = bytes_per_token * 0.9 + 0.1 * least(64, greatest(0.5, d.bytes / d.input))
    FROM (SELECT sum(bytes)::float8 AS bytes, sum(input)::float8 AS input FROM seen WHERE input > 0) d
    WHERE models.id = :model AND d.input > 0
),
lane AS MATERIALIZED (
    SELECT l.tier, s.jobs, s.output, l.measured_from, l.measured_tokens + s.output + s.input AS tokens,
           extract(epoch FROM now() - l.measured_from)::float8 AS seconds,
           EXISTS (SELECT FROM flows f JOIN tenants t ON t.id = f.tenant_id
                   WHERE f.model_id = :model AND f.tier = l.tier AND f.open AND NOT f.paused AND NOT t.paused) AS waits
    FROM lanes l JOIN seen s ON s.tier = l.tier
    WHERE l.model_id = :model AND s.jobs > 0
    ORDER BY l.tier
    FOR UPDATE OF l
)
UPDATE lanes
SET mean_output = mean_output + (d.output::float8 / d.jobs - mean_output) * least(0.5, d.jobs / 200.0),
    tokens_per_second = CASE
        WHEN NOT d.waits OR d.seconds IS NULL OR d.seconds < 1 THEN tokens_per_second
        WHEN tokens_per_second = 0 THEN d.tokens / d.seconds
        ELSE tokens_per_second + (d.tokens / d.seconds - tokens_per_second) * (1 - exp(-d.seconds / 10))
    END,
    measured_from = CASE WHEN d.waits THEN CASE WHEN d.seconds < 1 THEN d.measured_from ELSE now() END END,
    measured_tokens = CASE WHEN d.waits AND d.seconds < 1 THEN d.tokens ELSE 0 END
FROM lane d
WHERE lanes.model_id = :model AND lanes.tier = d.tier
