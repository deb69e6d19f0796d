-- One batch with nothing left but to write its files.
SELECT * FROM batches
WHERE id = :id AND (status = 'finalizing' OR (status = 'cancelling' AND ended = total))
