UPDATE workers SET lease_until = least(lease_until, now()) WHERE id = :worker
