-- The days (YYYYMMDD) that have partitions, oldest first.
SELECT substring(c.relname FROM 10) AS day
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'requests'::regclass AND c.relname ~ '^requests_[0-9]{8}$'
ORDER BY 1
