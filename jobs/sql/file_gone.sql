-- Files deleted or expired :grace seconds ago whose blob no batch has still to read, a thousand at most.
SELECT f.id, f.blob
FROM files f
WHERE (
    f.deleted_at <= now() - make_interval(secs => CAST(:grace AS float8))
    OR f.expires_at <= now() - make_interval(secs => CAST(:grace AS float8))
)
  AND NOT EXISTS (SELECT FROM batches b WHERE b.status = 'validating' AND b.input_file_id = f.id)
LIMIT 1000
