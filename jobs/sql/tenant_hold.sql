-- One at a time reckons with what a tenant's batches have waiting, until it commits.
SELECT name FROM tenants WHERE id = :tenant FOR NO KEY UPDATE
