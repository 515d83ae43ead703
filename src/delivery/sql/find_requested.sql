-- The same for rows whose dispatch was requested and that nobody has claimed yet.
SELECT i.tenant_id, i.id,
       pg_catalog.array_agg(r.id ORDER BY r.turn) FILTER (WHERE r.turn <= coalesce(($2::jsonb -> i.id::text)::int, $1))
FROM (
    SELECT q.id, q.plugin_installation_id,
           pg_catalog.row_number() OVER (PARTITION BY q.plugin_installation_id ORDER BY q.next_attempt_at) AS turn
    FROM int.plugin_delivery_queue AS q
    WHERE q.status = 'pending' AND q.claim_id IS NULL
      AND q.lease_expires_at > pg_catalog.clock_timestamp()
) AS r
JOIN int.plugin_installations AS i ON i.id = r.plugin_installation_id AND i.status = 'installed'
WHERE r.turn <= greatest(coalesce(($2::jsonb -> i.id::text)::int, $1), 1)
GROUP BY i.tenant_id, i.id
