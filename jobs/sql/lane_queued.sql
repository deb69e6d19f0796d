-- How many jobs wait in one lane, by its flows' counters, and how fast it is served.
SELECT
    coalesce((
        SELECT sum(queued) FROM flows WHERE model_id = CAST(:model AS int) AND tier = CAST(:tier AS smallint) AND open
    ), 0)::bigint AS queued,
    coalesce((
        SELECT tokens_per_second FROM lanes WHERE model_id = CAST(:model AS int) AND tier = CAST(:tier AS smallint)
    ), 0)::float8 AS tokens_per_second
