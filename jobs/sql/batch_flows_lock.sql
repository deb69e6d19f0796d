-- Lock the flows of a batch, in every lane. What follows in the transaction takes a new snapshot.
SELECT id FROM flows WHERE batch_id = :batch ORDER BY id FOR UPDATE
