-- What this worker measured: a lane's mean output and speed, a model's bytes per token. Moving averages.
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
)
UPDATE lanes
SET mean_output = mean_output + (s.output::float8 / s.jobs - mean_output) * least(0.5, s.jobs / 200.0),
    tokens_per_second = tokens_per_second * 0.8 + 0.2 * (s.output + s.input) / :seconds
FROM seen s
WHERE lanes.model_id = :model AND lanes.tier = s.tier AND s.jobs > 0
