-- Claims the rows $1 and returns what is needed to send them. Those that somebody else has claimed or locked
-- meanwhile are left out. $2 claim id (null: dispatch is requested, a worker claims later), $3 lease. Status and
-- readers of it see nothing of a claim.
-- coalesce keeps the planner from looking the ids up in the partial index on pending rows: statistics from
-- before a burst say that it is empty.
WITH chosen AS MATERIALIZED (
    SELECT q.id FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY ($1) AND coalesce(q.status, '') = 'pending'
      AND (q.lease_expires_at IS NULL OR $2 IS NOT NULL AND q.claim_id IS NULL)
    FOR UPDATE SKIP LOCKED
)
UPDATE int.plugin_delivery_queue AS q
SET claim_id = $2, lease_expires_at = pg_catalog.clock_timestamp() + $3,
    sent_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY (ARRAY(SELECT chosen.id FROM chosen))
RETURNING q.id, q.plugin_installation_id, q.event_type, q.payload, q.attempts, q.tenant_id,
    q.created_at BETWEEN pg_catalog.clock_timestamp() - interval '2 seconds' AND pg_catalog.clock_timestamp()
