-- Workers with jobs whose lease was ended by somebody who saw them die, or, where the rescuer has :watched for a lease,
-- has run out; none of these before the database is older than one lease, since nobody could renew while it was away.
SELECT w.id
FROM workers w
WHERE (
        w.lease_until = 'epoch'
        OR CAST(:watched AS boolean)
           AND w.lease_until <= now()
           AND pg_postmaster_start_time() <= now() - make_interval(secs => :lease)
    )
  AND EXISTS (SELECT FROM jobs j WHERE j.worker_id = w.id AND j.status = 'in_progress')
