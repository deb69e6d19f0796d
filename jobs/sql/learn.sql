-- What this worker measured: a lane's mean output and speed, a model's bytes per token. Moving averages; the first speed
-- stands alone, or the first estimates would be five times too late.
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
    tokens_per_second = tokens_per_second
        + ((s.output + s.input) / :seconds - tokens_per_second) * CASE tokens_per_second WHEN 0 THEN 1 ELSE 0.2 END
FROM seen s
WHERE lanes.model_id = :model AND lanes.tier = s.tier AND s.jobs > 0
