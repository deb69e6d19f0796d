-- The turns of a conversation from response :id back to its first, of one tenant; depth 1 is :id itself. A turn that is
-- gone ends it, and has nothing but its id.
WITH RECURSIVE chain AS (
    SELECT CAST(:id AS uuid) AS id, 1 AS depth
    UNION ALL
    SELECT r.previous_id, c.depth + 1
    FROM chain c
    JOIN jobs j ON j.id = c.id AND j.tenant_id = :tenant
    JOIN requests r ON r.job_id = c.id AND r.endpoint = '/v1/responses'
    WHERE r.previous_id IS NOT NULL
),
turns AS (
    SELECT c.id, c.depth, j.status, j.flags, r.body AS request, o.body AS response
    FROM chain c
    LEFT JOIN jobs j ON j.id = c.id AND j.tenant_id = :tenant
    LEFT JOIN requests r ON r.job_id = j.id AND r.endpoint = '/v1/responses'
    LEFT JOIN results o ON o.job_id = j.id
)
