-- A conversation and the size of its turns, oldest first. A length is read without its body.
-- include: chain
SELECT id, status, flags, octet_length(request) AS request_bytes, octet_length(response) AS response_bytes
FROM turns ORDER BY depth DESC
