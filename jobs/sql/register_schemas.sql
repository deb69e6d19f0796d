INSERT INTO schemas (hash, body)
SELECT hash, CAST(body AS jsonb) FROM unnest(CAST(:hashes AS text[]), CAST(:bodies AS text[])) AS s (hash, body)
ON CONFLICT DO NOTHING
