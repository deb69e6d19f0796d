-- What the database says of itself.
SELECT current_setting('server_version') AS release,
       current_setting('server_version_num')::int AS number,
       clock_timestamp() AS at,
       pg_is_in_recovery() AS standby,
       ARRAY(
           SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes']) AS s (name)
           WHERE current_setting(name) = 'off'
           UNION ALL
           SELECT 'synchronous_commit' WHERE current_setting('synchronous_commit') = 'off'
       ) AS unsafe,
       to_regclass('alembic_version') IS NOT NULL AS migrated
