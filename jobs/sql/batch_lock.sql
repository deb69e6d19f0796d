-- Whether this transaction is now the one that works on a batch. A lost connection gives the batch back.
SELECT pg_try_advisory_xact_lock(hashtextextended(CAST(CAST(:id AS uuid) AS text), 1)) AS got
