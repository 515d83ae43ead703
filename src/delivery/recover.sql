-- Back to the queue: leases that ran out, rows of another system without a lease, and with $1 (a worker
-- that has just started, alone) every row that a worker before it had claimed.
UPDATE int.plugin_delivery_queue AS q
SET status = 'pending', claim_id = NULL, lease_expires_at = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE q.status = 'sending'
  AND (q.lease_expires_at IS NULL
       OR q.lease_expires_at <= pg_catalog.clock_timestamp()
       OR ($1 AND q.claim_id IS NOT NULL))
