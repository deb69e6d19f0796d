-- queued -> expired
WITH ended AS (
    UPDATE jobs
    SET status = 'expired', finished_at = now()
    WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'queued' AND expires_at <= now()
      AND flow_id = ANY(CAST(:locked AS bigint[]))
    RETURNING id, flow_id, tenant_id, flags, status, blocked_on IS NULL AS was_queued, NULL::int[] AS tokens
),
-- include: ended
