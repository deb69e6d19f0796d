SELECT status, flags FROM jobs WHERE id = :id AND tenant_id = :tenant FOR UPDATE
