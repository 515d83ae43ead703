-- Claims candidates and returns what is needed to send them. {candidates} is claim_due.sql or
-- claim_requested.sql: rows (id, turn, next_attempt_at) of which the lower turn goes first.
-- $1 rows at most, $2 rows at most for an installation that $5 does not list, $3 claim id (null: dispatch
-- is requested, a worker claims later), $4 lease, $5 and $6 installations and how many rows each may have,
-- $7 bytes of stored payloads after which no more rows are taken, $8 the status that candidates have.
-- coalesce keeps the planner from looking the ids up in the partial index on pending rows: statistics from
-- before a burst say that it is empty.
WITH candidate AS (
    {candidates}
), chosen AS MATERIALIZED (
    SELECT q.id, pg_catalog.pg_column_size(q.payload) AS size FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY (ARRAY(SELECT c.id FROM candidate AS c ORDER BY c.turn, c.next_attempt_at LIMIT $1))
      AND coalesce(q.status, '') = $8 AND (q.status = 'pending' OR q.claim_id IS NULL)
    FOR UPDATE SKIP LOCKED
), fitting AS (
    SELECT s.id FROM (
        SELECT c.id, pg_catalog.sum(c.size) OVER (ROWS UNBOUNDED PRECEDING) - c.size AS before FROM chosen AS c
    ) AS s
    WHERE s.before < $7
)
UPDATE int.plugin_delivery_queue AS q
SET status = 'sending', claim_id = $3, lease_expires_at = pg_catalog.clock_timestamp() + $4,
    sent_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp()
WHERE q.id = ANY (ARRAY(SELECT fitting.id FROM fitting))
RETURNING q.id, q.plugin_installation_id, q.event_type, q.payload, q.attempts, q.tenant_id
