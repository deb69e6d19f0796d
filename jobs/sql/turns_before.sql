-- What was asked and answered in the turns before this one, as far as it completed and is still kept.
SELECT q.body AS request, s.body AS response
FROM turns me
JOIN turns t ON t.tenant_id = me.tenant_id AND t.conversation = me.conversation AND t.turn < me.turn
JOIN jobs j ON j.id = t.job_id AND j.status = 'completed'
JOIN requests q ON q.job_id = t.job_id
JOIN results s ON s.job_id = t.job_id
WHERE me.job_id = :job
ORDER BY t.turn
