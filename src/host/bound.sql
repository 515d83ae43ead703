-- The host's objects that were bound; oid and owner of those that are still what they were. Without those of whose
-- name nothing is there any more: the host has done away with them.
SELECT b.object, x.oid, x.owner
FROM plugin_webhooks.host_bindings AS b
LEFT JOIN (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::oid AS class, p.oid, p.proname AS name, p.pronamespace AS schema,
           p.proowner AS owner
    FROM pg_catalog.pg_proc AS p
    UNION ALL
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relname, c.relnamespace, c.relowner
    FROM pg_catalog.pg_class AS c
) AS x ON x.oid = b.object_oid AND x.owner = b.owner AND x.schema = b.schema_oid
 AND x.name = pg_catalog.split_part(pg_catalog.split_part(b.object, '(', 1), '.', 2)
 AND (x.class = 'pg_catalog.pg_proc'::pg_catalog.regclass) = (b.object LIKE '%)')
 AND EXISTS (
    SELECT FROM pg_catalog.pg_namespace AS n
    WHERE n.oid = b.schema_oid AND n.nspowner = b.schema_owner
      AND n.nspname = pg_catalog.split_part(b.object, '.', 1))
 AND coalesce((
    SELECT d.refobjid FROM pg_catalog.pg_depend AS d
    WHERE d.classid = x.class AND d.objid = x.oid AND d.deptype = 'e'
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass), 0) = b.extension_oid
WHERE x.oid IS NOT NULL
   OR EXISTS (
    SELECT FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid
    WHERE b.object LIKE '%)' AND n.nspname = pg_catalog.split_part(b.object, '.', 1)
      AND p.proname = pg_catalog.split_part(pg_catalog.split_part(b.object, '(', 1), '.', 2))
   OR EXISTS (
    SELECT FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
    WHERE b.object NOT LIKE '%)' AND n.nspname = pg_catalog.split_part(b.object, '.', 1)
      AND c.relname = pg_catalog.split_part(b.object, '.', 2))
