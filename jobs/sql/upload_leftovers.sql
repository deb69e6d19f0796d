-- Parts of uploads that have ended, a thousand at most.
SELECT p.id, p.blob
FROM upload_parts p
JOIN uploads u ON u.id = p.upload_id
WHERE u.status <> 'pending' OR u.expires_at <= now()
LIMIT 1000
