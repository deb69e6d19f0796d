UPDATE tenants
SET weight = coalesce(CAST(:weight AS real), weight), paused = coalesce(CAST(:paused AS boolean), paused)
WHERE name = :tenant
RETURNING id, name, weight, paused, created_at
