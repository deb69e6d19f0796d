-- What is null stays as it is, and so does `updated_at` where nothing else changes; encrypted headers cannot be compared.
-- Who is enabled again begins with a clean record.
UPDATE webhook_endpoints
SET name = coalesce(CAST(:label AS text), name),
    url = coalesce(CAST(:url AS text), url),
    event_types = coalesce(CAST(:event_types AS text[]), event_types),
    header_names = CASE WHEN :sets_headers THEN CAST(:header_names AS text[]) ELSE header_names END,
    headers = CASE WHEN :sets_headers THEN CAST(:headers AS bytea) ELSE headers END,
    disabled_at = CASE CAST(:disabled AS boolean) WHEN true THEN coalesce(disabled_at, now()) WHEN false THEN NULL ELSE disabled_at END,
    disabled_reason = CASE CAST(:disabled AS boolean) WHEN true THEN coalesce(disabled_reason, 'by its owner') WHEN false THEN NULL ELSE disabled_reason END,
    failing_since = CASE CAST(:disabled AS boolean) WHEN false THEN NULL ELSE failing_since END,
    updated_at = CASE WHEN name <> CAST(:label AS text) OR url <> CAST(:url AS text) OR event_types <> CAST(:event_types AS text[])
                           OR :sets_headers AND num_nonnulls(headers, CAST(:headers AS bytea)) > 0
                           OR CAST(:disabled AS boolean) <> (disabled_at IS NOT NULL)
                      THEN now() ELSE updated_at END
WHERE id = :id AND tenant_id = :tenant
RETURNING id
