-- The body of a claimed delivery is what it will be on every attempt, now with the result in it.
UPDATE deliveries SET body = :body, includes_result = false
WHERE id = :id AND lease_token = :lease_token AND status = 'pending' AND includes_result
RETURNING id
