-- Gives up the claim on these rows, as if their dispatch had just been requested: the next claim takes them.
UPDATE int.plugin_delivery_queue AS q
SET claim_id = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY ($1::uuid[]) AND q.claim_id = $2 AND q.status = 'pending'
