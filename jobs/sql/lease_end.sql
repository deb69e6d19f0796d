-- Unlike one that ran out, a lease that was ended leaves nothing to wait for.
UPDATE workers SET lease_until = 'epoch' WHERE id = :worker
