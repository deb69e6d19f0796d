-- Rows written since the server's counts began: what PostgreSQL counts anyway, of every process.
SELECT extract(epoch FROM clock_timestamp())::float8 AS at,
       coalesce(sum(n_tup_ins) FILTER (WHERE relname = 'jobs'), 0)::bigint AS submitted,
       coalesce(sum(n_tup_ins) FILTER (WHERE relname LIKE 'results%'), 0)::bigint AS results,
       coalesce(sum(n_tup_ins) FILTER (WHERE relname = 'delivery_attempts'), 0)::bigint AS deliveries
FROM pg_stat_user_tables
