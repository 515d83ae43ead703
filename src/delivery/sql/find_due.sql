-- Installations with pending rows: the tenant, the installation, ids of its oldest due rows in order, as many as $2
-- says ({"installation": number}), or $1. Where that is 0, the queue is not asked, and the ids are null.
-- The recursion visits each installation with pending rows once, so that a million rows of one cost no more
-- than one. It goes backwards: an installation's newest rows are pending, while index entries of its oldest ones
-- may be of rows that have been claimed since.
WITH RECURSIVE waiting (id) AS (
    (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
     WHERE q.status = 'pending' AND q.lease_expires_at IS NULL
     ORDER BY q.plugin_installation_id DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT q.plugin_installation_id FROM int.plugin_delivery_queue AS q
            WHERE q.status = 'pending' AND q.lease_expires_at IS NULL AND q.plugin_installation_id < w.id
            ORDER BY q.plugin_installation_id DESC LIMIT 1)
    FROM waiting AS w WHERE w.id IS NOT NULL
), looked_at (tenant_id, id, permits) AS MATERIALIZED (
    SELECT i.tenant_id, i.id, coalesce(($2::jsonb -> i.id::text)::int, $1)
    FROM waiting AS w
    JOIN int.plugin_installations AS i ON i.id = w.id AND i.status = 'installed'
)
SELECT l.tenant_id, l.id,
       CASE WHEN l.permits > 0 THEN ARRAY(
           SELECT q.id FROM int.plugin_delivery_queue AS q
           WHERE q.status = 'pending' AND q.lease_expires_at IS NULL AND q.plugin_installation_id = l.id
             AND q.next_attempt_at <= pg_catalog.clock_timestamp()
           ORDER BY q.next_attempt_at
           LIMIT l.permits
       ) END
FROM looked_at AS l
