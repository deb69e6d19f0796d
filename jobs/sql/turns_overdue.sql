-- Jobs that have ended, or were deleted, while turns still wait for them: whoever ended them died before it freed these.
SELECT DISTINCT b.blocked_on AS id
FROM jobs b
WHERE b.blocked_on IS NOT NULL AND b.status = 'queued'
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.id = b.blocked_on AND j.status IN ('queued', 'in_progress'))
LIMIT 1000
