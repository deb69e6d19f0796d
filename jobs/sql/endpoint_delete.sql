-- Its deliveries stay to be looked at with their jobs; those that wait fail when their turn comes.
DELETE FROM webhook_endpoints WHERE id = :id AND tenant_id = :tenant RETURNING id
