-- The days (YYYYMMDD) that have partitions, oldest first, and whether all three tables have theirs.
SELECT right(c.relname, 8) AS day, count(*) = 3 AS whole
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent IN ('requests'::regclass, 'results'::regclass, 'streams'::regclass)
  AND c.relname ~ '^(requests|results|streams)_[0-9]{8}$'
GROUP BY 1
ORDER BY 1
