-- Where the deliveries of these installations go: $1 their ids, $2 which version of the row is known already. Its
-- configuration, which may be long, is not read again.
SELECT i.id, i.tenant_id, p.key, v.version, v.version = known.version, i.secret_ref,
       CASE WHEN v.version IS DISTINCT FROM known.version THEN i.config END
FROM ROWS FROM (pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::text[])) AS known (id, version)
JOIN int.plugin_installations AS i ON i.id = known.id
JOIN int.plugins AS p ON p.id = i.plugin_id
CROSS JOIN LATERAL (SELECT pg_catalog.concat(i.xmin::text, ' ', i.ctid::text) AS version) AS v
