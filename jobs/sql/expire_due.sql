-- Queued jobs whose time has run out, oldest first.
SELECT id FROM jobs WHERE status = 'queued' AND expires_at <= now() ORDER BY expires_at LIMIT 1000
