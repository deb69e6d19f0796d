-- The flows whose turn it is, locked in id order. claim.sql then works on these alone, with a snapshot taken after.
SELECT id
FROM flows
WHERE id IN (
        SELECT f.id
        FROM flows f JOIN tenants t ON t.id = f.tenant_id
        WHERE f.model_id = :model AND f.tier = :tier AND f.open AND NOT f.paused AND NOT t.paused
        ORDER BY f.vtime
        LIMIT :free
    )
    AND open
ORDER BY id
FOR UPDATE
