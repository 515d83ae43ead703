-- One row a settlement. claim_id fences: the settlement of an older claim, or of one that
-- somebody ended by hand, finds no row. A count that was set to
-- the largest number stays there: one row must not fail the statement.
UPDATE int.plugin_delivery_queue AS q
SET status = o.status,
    attempts = least(q.attempts, 2147483647 - o.failures) + o.failures,
    last_error = o.error,
    next_attempt_at = CASE WHEN o.status = 'pending'
        THEN pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => o.delay)
        ELSE q.next_attempt_at END,
    claim_id = NULL, lease_expires_at = NULL, updated_at = pg_catalog.clock_timestamp()
FROM ROWS FROM (
    pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::text[]),
    pg_catalog.unnest($4::int[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::float8[])
) AS o (id, claim_id, status, failures, error, delay)
WHERE q.id = o.id AND q.claim_id = o.claim_id AND coalesce(q.status, '') = 'pending'
  AND q.lease_expires_at IS NOT NULL
