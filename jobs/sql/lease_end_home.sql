UPDATE workers SET lease_until = 'epoch' WHERE host = :host AND home = :home AND lease_until <> 'epoch' RETURNING id
