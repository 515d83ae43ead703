-- Due rows, for claim.sql.
-- The recursion visits each installation with pending rows once, so that a million rows of one cost no more
-- than one; `turn` deals them out in rounds.
    WITH RECURSIVE waiting (id) AS (
        (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
         WHERE q.status = 'pending' ORDER BY q.plugin_installation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
                WHERE q.status = 'pending' AND q.plugin_installation_id > w.id
                ORDER BY q.plugin_installation_id LIMIT 1)
        FROM waiting AS w WHERE w.id IS NOT NULL
    )
    SELECT d.id, d.next_attempt_at,
           pg_catalog.row_number() OVER (PARTITION BY w.id ORDER BY d.next_attempt_at) AS turn
    FROM waiting AS w
    JOIN int.plugin_installations AS i ON i.id = w.id AND i.status = 'installed'
    LEFT JOIN ROWS FROM (pg_catalog.unnest($5::uuid[]), pg_catalog.unnest($6::int[])) AS listed (id, permits)
        ON listed.id = w.id
    CROSS JOIN LATERAL (
        SELECT q.id, q.next_attempt_at FROM int.plugin_delivery_queue AS q
        WHERE q.status = 'pending' AND q.plugin_installation_id = w.id
          AND q.next_attempt_at <= pg_catalog.clock_timestamp()
        ORDER BY q.next_attempt_at
        LIMIT coalesce(listed.permits, $2)
    ) AS d
