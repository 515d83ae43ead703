-- One row: how many deliveries are in which state, and the oldest that could go now.
SELECT pg_catalog.count(*) FILTER (WHERE d.status = 'pending' AND d.lease_expires_at IS NULL),
       pg_catalog.count(*) FILTER (WHERE d.status = 'pending' AND d.lease_expires_at IS NULL
           AND d.next_attempt_at <= pg_catalog.now()),
       pg_catalog.count(*) FILTER (WHERE d.status = 'sending'
           OR d.status = 'pending' AND d.lease_expires_at IS NOT NULL),
       pg_catalog.count(*) FILTER (WHERE d.status = 'dead' AND d.updated_at > pg_catalog.now() - interval '1 hour'),
       pg_catalog.min(d.next_attempt_at) FILTER (
           WHERE d.status = 'pending' AND d.lease_expires_at IS NULL
           AND d.next_attempt_at <= pg_catalog.now())
FROM int.plugin_delivery_queue AS d
