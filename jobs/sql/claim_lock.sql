-- The flows whose turn it is, locked in id order. claim.sql then works on these alone, with a snapshot taken after: it
-- follows in the same round trip, so what was locked is handed on by the server, in a setting of the transaction.
-- A worker whose row is gone claims nothing: nobody would rescue what it holds. The row cannot go before the commit.
WITH me AS MATERIALIZED (
    SELECT id FROM workers WHERE id = :worker FOR KEY SHARE
),
locked AS MATERIALIZED (
    SELECT id
    FROM flows
    WHERE EXISTS (SELECT FROM me)
        AND id IN (
            SELECT f.id
            FROM flows f JOIN tenants t ON t.id = f.tenant_id
            WHERE f.model_id = :model AND f.tier = :tier AND f.open AND NOT f.paused AND NOT t.paused
            ORDER BY f.vtime
            LIMIT :free
        )
        AND open
    ORDER BY id
    FOR UPDATE
)
SELECT set_config('longhaul.locked', coalesce(array_agg(id)::text, '{}'), true) FROM locked
