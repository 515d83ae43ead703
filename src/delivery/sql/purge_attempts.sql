-- One step through the attempts from the oldest: $1 where it starts, $2 how many rows it looks at, $3 how
-- old attempts become. Returns the same as purge_queue.sql.
WITH seen AS MATERIALIZED (
    SELECT a.id, a.started_at
    FROM int.plugin_delivery_attempts AS a
    WHERE a.id >= $1
    ORDER BY a.id
    LIMIT $2
), deleted AS (
    DELETE FROM int.plugin_delivery_attempts AS a
    WHERE a.id = ANY (ARRAY(SELECT seen.id FROM seen WHERE seen.started_at < pg_catalog.now() - $3))
)
SELECT pg_catalog.max(s.id), pg_catalog.count(*),
       coalesce(pg_catalog.max(s.started_at) >= pg_catalog.now() - $3, true)
FROM seen AS s
