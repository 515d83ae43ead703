-- Which claimed rows another transaction has locked; the others are locked by this one now.
-- $1 and $2: deliveries and their claims, as in settle.sql.
WITH outcome AS MATERIALIZED (
    SELECT o.id, o.claim_id
    FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::bigint[])) AS o (id, claim_id)
), free AS MATERIALIZED (
    SELECT q.id FROM int.plugin_delivery_queue AS q
    JOIN outcome AS o ON q.id = o.id AND q.claim_id = o.claim_id
    WHERE q.status = 'pending'
    FOR UPDATE OF q SKIP LOCKED
)
SELECT q.id FROM int.plugin_delivery_queue AS q
JOIN outcome AS o ON q.id = o.id AND q.claim_id = o.claim_id
WHERE q.status = 'pending' AND q.id <> ALL (ARRAY(SELECT free.id FROM free))
