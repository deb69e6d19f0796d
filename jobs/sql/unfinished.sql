SELECT id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('queued', 'in_progress')
