-- The migration that the schema is at, and whether the bodies of tomorrow have their partition.
SELECT version_num AS revision, to_regclass('requests_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD'))
       IS NOT NULL AS partitioned
FROM alembic_version
