-- Rows whose dispatch was requested and that nobody has claimed yet, for claim.sql.
    SELECT r.id, r.next_attempt_at, r.turn
    FROM (
        SELECT q.id, q.plugin_installation_id, q.next_attempt_at,
               pg_catalog.row_number() OVER (PARTITION BY q.plugin_installation_id
                                             ORDER BY q.next_attempt_at) AS turn
        FROM int.plugin_delivery_queue AS q
        WHERE q.status = 'sending' AND q.claim_id IS NULL
          AND q.lease_expires_at > pg_catalog.clock_timestamp()
    ) AS r
    JOIN int.plugin_installations AS i ON i.id = r.plugin_installation_id AND i.status = 'installed'
    LEFT JOIN ROWS FROM (pg_catalog.unnest($5::uuid[]), pg_catalog.unnest($6::int[])) AS listed (id, permits)
        ON listed.id = r.plugin_installation_id
    WHERE r.turn <= coalesce(listed.permits, $2)
