-- Back to the queue: leases that ran out, rows of the former system without a lease, and with $1 (a worker
-- that has just started, alone) every row that a worker before it had claimed, or that an earlier version left as
-- sending. A row that somebody has locked comes another time.
UPDATE int.plugin_delivery_queue AS q
SET status = 'pending', claim_id = NULL, lease_expires_at = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY (ARRAY(
    SELECT s.id FROM int.plugin_delivery_queue AS s
    WHERE (s.status = 'sending' OR s.lease_expires_at IS NOT NULL) AND s.status IN ('sending', 'pending')
      AND (s.lease_expires_at IS NULL
           OR s.lease_expires_at <= pg_catalog.clock_timestamp()
           OR ($1 AND (s.claim_id IS NOT NULL OR s.status = 'sending')))
    FOR UPDATE SKIP LOCKED))
