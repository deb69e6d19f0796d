-- Wait for this worker's claim in flight. What follows in the transaction sees what it took.
SELECT id FROM workers WHERE id = :worker FOR UPDATE
