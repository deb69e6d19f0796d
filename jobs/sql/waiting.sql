-- What waits in each lane of a model, up to :free, and whether the lane was served in the last minute.
SELECT l.tier, w.waiting, coalesce(l.served_at > now() - interval '1 minute', false) AS served
FROM lanes l
CROSS JOIN LATERAL (
    SELECT least(coalesce(sum(o.queued), 0), :free)::int AS waiting
    FROM (
        SELECT f.queued
        FROM flows f JOIN tenants t ON t.id = f.tenant_id
        WHERE f.model_id = l.model_id AND f.tier = l.tier AND f.open AND NOT f.paused AND NOT t.paused
        LIMIT :free
    ) o
) w
WHERE l.model_id = :model
