opened AS (
    -- ids made before their commit arrive out of order, hence least(); a flow that wakes starts at the lane's floor
    UPDATE flows f
    SET queued = f.queued + d.k,
        open = true,
        cursor = least(f.cursor, d.place),
        vtime = CASE WHEN f.open THEN f.vtime
                     ELSE greatest(f.vtime, (SELECT l.vfloor FROM lanes l WHERE l.model_id = f.model_id AND l.tier = f.tier))
                END
    FROM (SELECT flow_id, count(*) AS k, (array_agg(place ORDER BY place))[1] AS place FROM entering GROUP BY flow_id) d
    WHERE f.id = d.flow_id
    RETURNING f.model_id, d.k
)
