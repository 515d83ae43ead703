-- Installations with due rows: the tenant, the installation, ids of its oldest due rows in order. Of the
-- installations $2 as many as $3 says, of each other one $1.
-- The recursion visits each installation with pending rows once, so that a million rows of one cost no more
-- than one.
WITH RECURSIVE waiting (id) AS (
    (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
     WHERE q.status = 'pending' ORDER BY q.plugin_installation_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
            WHERE q.status = 'pending' AND q.plugin_installation_id > w.id
            ORDER BY q.plugin_installation_id LIMIT 1)
    FROM waiting AS w WHERE w.id IS NOT NULL
)
SELECT i.tenant_id, i.id, d.ids
FROM waiting AS w
JOIN int.plugin_installations AS i ON i.id = w.id AND i.status = 'installed'
LEFT JOIN ROWS FROM (pg_catalog.unnest($2::uuid[]), pg_catalog.unnest($3::int[])) AS listed (id, permits)
    ON listed.id = w.id
CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(due.id) AS ids
    FROM (
        SELECT q.id FROM int.plugin_delivery_queue AS q
        WHERE q.status = 'pending' AND q.plugin_installation_id = w.id
          AND q.next_attempt_at <= pg_catalog.clock_timestamp()
        ORDER BY q.next_attempt_at
        LIMIT coalesce(listed.permits, $1)
    ) AS due
    HAVING pg_catalog.count(*) > 0
) AS d
