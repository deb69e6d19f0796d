INSERT INTO models (name, queue, registration)
VALUES (:model, :queue, CAST(:registration AS jsonb))
ON CONFLICT (name) DO UPDATE SET registration = excluded.registration, retired_at = NULL
RETURNING id
