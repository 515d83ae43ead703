-- Rows that pg_net has sent, with one of the request ids $1.
UPDATE int.plugin_delivery_queue AS q
SET status = 'delivered', last_error = NULL, updated_at = pg_catalog.clock_timestamp()
WHERE q.status = 'sending' AND q.lease_expires_at IS NULL AND q.net_request_id = ANY ($1)
