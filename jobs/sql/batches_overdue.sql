-- What has not ended so long after its batch was cancelled or ran out of time: it runs, or was handed back to wait.
SELECT j.id
FROM batches b
JOIN lines l ON l.batch_id = b.id AND l.ended IS NULL
JOIN jobs j ON j.id = l.job_id AND j.status IN ('queued', 'in_progress')
WHERE (b.status = 'cancelling' AND b.cancelling_at < now() - make_interval(secs => :seconds))
   OR (b.status = 'in_progress' AND b.ending = 'expired' AND b.expires_at < now() - make_interval(secs => :seconds))
LIMIT 1000
