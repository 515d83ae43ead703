-- Claims the rows $1 and returns what is needed to send them. Those that somebody else has claimed or locked
-- meanwhile are left out. $2 claim id (null: dispatch is requested, a worker claims later), $3 lease, $4 the statuses
-- that rows may have.
-- coalesce keeps the planner from looking the ids up in the partial index on pending rows: statistics from
-- before a burst say that it is empty.
WITH chosen AS MATERIALIZED (
    SELECT q.id FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY ($1) AND coalesce(q.status, '') = ANY ($4) AND (q.status = 'pending' OR q.claim_id IS NULL)
    FOR UPDATE SKIP LOCKED
)
UPDATE int.plugin_delivery_queue AS q
SET status = 'sending', claim_id = $2, lease_expires_at = pg_catalog.clock_timestamp() + $3,
    sent_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY (ARRAY(SELECT chosen.id FROM chosen))
RETURNING q.id, q.plugin_installation_id, q.event_type, q.payload, q.attempts, q.tenant_id
