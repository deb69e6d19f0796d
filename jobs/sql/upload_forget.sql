-- Uploads that ended a day ago or more and whose parts are gone, a thousand at most: until then they say how they ended.
DELETE FROM uploads
WHERE id IN (
    SELECT u.id FROM uploads u
    WHERE u.expires_at <= now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM upload_parts p WHERE p.upload_id = u.id)
    LIMIT 1000
)
RETURNING id
