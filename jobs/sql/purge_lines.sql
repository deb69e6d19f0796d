-- Lines of batches that ended and were made before :bound, five thousand at most.
DELETE FROM lines
WHERE ctid = ANY(ARRAY(
    SELECT l.ctid
    FROM batches b JOIN lines l ON l.batch_id = b.id
    WHERE b.id < CAST(:bound AS uuid) AND b.status IN ('failed', 'completed', 'expired', 'cancelled')
    LIMIT 5000
))
RETURNING line
