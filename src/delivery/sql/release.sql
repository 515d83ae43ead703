-- Gives back rows of this claim, as if the processor had handed them over: the next claim takes them.
UPDATE int.plugin_delivery_queue AS q
SET claim_id = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY ($1::uuid[]) AND q.claim_id = $2 AND q.status = 'sending'
