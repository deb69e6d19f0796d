UPDATE workers SET lease_until = now() WHERE home = :home AND lease_until > now() RETURNING id
