-- $1 rows at most, $2 rows at most for an installation without a lane, $3 claim id (null: hand over),
-- $4 lease, $5 and $6 lanes: installations with requests in flight or trouble, and the room each has left,
-- $7 bytes of stored payloads after which no more rows are taken.
-- The recursion visits each installation with pending rows once, so that a million rows of one
-- cost no more than one; `turn` then deals them out in rounds.
-- coalesce keeps the planner from looking the ids up in the partial index on pending rows: statistics from
-- before a burst say that it is empty.
WITH RECURSIVE waiting (id) AS (
    (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
     WHERE q.status = 'pending' ORDER BY q.plugin_installation_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
            WHERE q.status = 'pending' AND q.plugin_installation_id > w.id
            ORDER BY q.plugin_installation_id LIMIT 1)
    FROM waiting AS w WHERE w.id IS NOT NULL
), due AS (
    SELECT d.id, d.next_attempt_at,
           pg_catalog.row_number() OVER (PARTITION BY w.id ORDER BY d.next_attempt_at) AS turn
    FROM waiting AS w
    JOIN int.plugin_installations AS i ON i.id = w.id AND i.status = 'installed'
    LEFT JOIN ROWS FROM (pg_catalog.unnest($5::uuid[]), pg_catalog.unnest($6::int[])) AS lane (id, room)
        ON lane.id = w.id
    CROSS JOIN LATERAL (
        SELECT q.id, q.next_attempt_at FROM int.plugin_delivery_queue AS q
        WHERE q.status = 'pending' AND q.plugin_installation_id = w.id
          AND q.next_attempt_at <= pg_catalog.clock_timestamp()
        ORDER BY q.next_attempt_at
        LIMIT coalesce(lane.room, $2)
    ) AS d
), chosen AS MATERIALIZED (
    SELECT q.id, pg_catalog.pg_column_size(q.payload) AS size FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY (ARRAY(SELECT due.id FROM due ORDER BY due.turn, due.next_attempt_at LIMIT $1))
      AND coalesce(q.status, '') = 'pending'
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
FROM int.plugin_installations AS i
WHERE q.id = ANY (ARRAY(SELECT fitting.id FROM fitting)) AND i.id = q.plugin_installation_id
RETURNING q.id, q.plugin_installation_id, q.event_type, q.payload, q.attempts,
          i.config, i.secret_ref, q.tenant_id
