-- One step through the queue from its oldest change: $1 where it starts, $2 how many rows it
-- looks at, $3 and $4 how old delivered and dead rows become (null: they are kept). What has waited for $4 for an
-- installation that was not installed, nor changed, for as long is given up: nobody would send it, nor delete it.
-- Returns where to go on, how many rows it saw, and whether it has come to rows that are
-- too young for both.
WITH seen AS MATERIALIZED (
    SELECT q.id, q.source_entity_change_id AS change, q.created_at
    FROM int.plugin_delivery_queue AS q
    WHERE q.source_entity_change_id >= $1
    ORDER BY q.source_entity_change_id
    LIMIT $2
), deleted AS (
    DELETE FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY (ARRAY(
        SELECT o.id FROM int.plugin_delivery_queue AS o
        WHERE o.id = ANY (ARRAY(SELECT seen.id FROM seen))
          AND (o.status = 'delivered' AND o.updated_at < pg_catalog.now() - $3
               OR o.status = 'dead' AND o.updated_at < pg_catalog.now() - $4)
        FOR UPDATE SKIP LOCKED))
), given_up AS (
    UPDATE int.plugin_delivery_queue AS q
    SET status = 'dead', updated_at = pg_catalog.clock_timestamp(), last_error = pg_catalog.format(
        'given up: the installation is %s, and plugin_webhooks.retain_dead has passed', w.status)
    FROM (
        SELECT o.id, i.status FROM int.plugin_delivery_queue AS o
        JOIN int.plugin_installations AS i ON i.id = o.plugin_installation_id
        WHERE o.id = ANY (ARRAY(SELECT seen.id FROM seen))
          AND o.status = 'pending' AND o.lease_expires_at IS NULL AND i.status <> 'installed'
          AND greatest(o.updated_at, i.updated_at) < pg_catalog.now() - $4
        FOR UPDATE OF o SKIP LOCKED
    ) AS w
    WHERE q.id = w.id
)
SELECT pg_catalog.max(s.change), pg_catalog.count(*),
       coalesce(pg_catalog.max(s.created_at) >= pg_catalog.now() - least($3, $4), true)
FROM seen AS s
