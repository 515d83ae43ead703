-- Takes over what the processor handed over. Parameters as in claim_due.sql.
WITH handed AS (
    SELECT q.id, q.plugin_installation_id, q.next_attempt_at,
           pg_catalog.row_number() OVER (PARTITION BY q.plugin_installation_id
                                         ORDER BY q.next_attempt_at) AS turn
    FROM int.plugin_delivery_queue AS q
    WHERE q.status = 'sending' AND q.claim_id IS NULL
      AND q.lease_expires_at > pg_catalog.clock_timestamp()
), roomy AS (
    SELECT h.id, h.turn, h.next_attempt_at
    FROM handed AS h
    JOIN int.plugin_installations AS i ON i.id = h.plugin_installation_id AND i.status = 'installed'
    LEFT JOIN ROWS FROM (pg_catalog.unnest($5::uuid[]), pg_catalog.unnest($6::int[])) AS lane (id, room)
        ON lane.id = h.plugin_installation_id
    WHERE h.turn <= coalesce(lane.room, $2)
), chosen AS MATERIALIZED (
    SELECT q.id, pg_catalog.pg_column_size(q.payload) AS size FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY (ARRAY(SELECT roomy.id FROM roomy ORDER BY roomy.turn, roomy.next_attempt_at LIMIT $1))
      AND coalesce(q.status, '') = 'sending' AND q.claim_id IS NULL
    FOR UPDATE SKIP LOCKED
), fitting AS (
    SELECT s.id FROM (
        SELECT c.id, pg_catalog.sum(c.size) OVER (ROWS UNBOUNDED PRECEDING) - c.size AS before FROM chosen AS c
    ) AS s
    WHERE s.before < $7
)
UPDATE int.plugin_delivery_queue AS q
SET claim_id = $3, lease_expires_at = pg_catalog.clock_timestamp() + $4,
    sent_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp()
FROM int.plugin_installations AS i
WHERE q.id = ANY (ARRAY(SELECT fitting.id FROM fitting)) AND i.id = q.plugin_installation_id
RETURNING q.id, q.plugin_installation_id, q.event_type, q.payload, q.attempts,
          i.config, i.secret_ref, q.tenant_id
