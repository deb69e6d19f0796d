SELECT hash, body FROM schemas WHERE hash = ANY(CAST(:hashes AS text[]))
