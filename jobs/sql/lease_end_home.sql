UPDATE workers SET lease_until = 'epoch' WHERE home = :home AND lease_until <> 'epoch' RETURNING id
