-- Returns every claimed row, and those whose dispatch was requested, to the queue, whoever claimed them.
UPDATE int.plugin_delivery_queue AS q
SET status = 'pending', claim_id = NULL, lease_expires_at = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE (q.status = 'sending' OR q.lease_expires_at IS NOT NULL) AND q.status IN ('sending', 'pending')
