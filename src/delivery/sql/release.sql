-- Gives up the claim on these rows, as if it had never been.
UPDATE int.plugin_delivery_queue AS q
SET claim_id = NULL, lease_expires_at = NULL
WHERE q.id = ANY ($1::uuid[]) AND q.claim_id = $2 AND q.status = 'pending'
