-- A conversation with what was said in it, oldest turn first.
-- include: chain
SELECT id, status, flags, request, response FROM turns ORDER BY depth DESC
