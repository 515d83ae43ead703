-- What a dump leaves out.

-- Reads the catalogs and the expected shape with its owner's rights: who may read it needs no others, and none on
-- the schemas of the tables.
CREATE OR REPLACE VIEW plugin_webhooks.not_in_dumps AS
WITH extension AS (
    SELECT e.oid, e.extconfig FROM pg_catalog.pg_extension AS e WHERE e.extname = 'plugin_webhooks'
), member AS (
    SELECT d.classid, d.objid, d.objid = ANY (e.extconfig) AS data
    FROM pg_catalog.pg_depend AS d JOIN extension AS e ON e.oid = d.refobjid
    WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::regclass
), relation AS (
    SELECT c.oid, m.data, n.nspname, c.relname,
           pg_catalog.format('%s.%s', n.nspname, c.relname) AS name
    FROM member AS m
    JOIN pg_catalog.pg_class AS c ON c.oid = m.objid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE m.classid = 'pg_catalog.pg_class'::regclass
)
SELECT 'owner'::text AS kind, o.object,
       pg_catalog.format('ALTER %s %s OWNER TO %I;', o.kind, o.object, pg_catalog.pg_get_userbyid(o.owner)) AS statement
FROM plugin_webhooks.member_owners AS o
-- CREATE EXTENSION at the restore makes these.
WHERE o.owner IS DISTINCT FROM CASE WHEN o.reached THEN pg_catalog.to_regrole('plugin_webhooks_owner')::oid
                                    ELSE o.extension_owner END
UNION ALL
SELECT 'constraint', r.oid::regclass::text,
       pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s;',
           r.oid::regclass, c.conname, pg_catalog.pg_get_constraintdef(c.oid))
FROM relation AS r
JOIN pg_catalog.pg_constraint AS c ON c.conrelid = r.oid AND c.contype IN ('c', 'f', 'u', 'x')
WHERE r.data AND NOT EXISTS (
    SELECT FROM plugin_webhooks.expected_shape AS e
    WHERE e.kind = 'constraint' AND e.relation = r.name AND e.name = c.conname)
UNION ALL
SELECT 'index', r.oid::regclass::text, pg_catalog.pg_get_indexdef(x.indexrelid) || ';'
FROM relation AS r
JOIN pg_catalog.pg_index AS x ON x.indrelid = r.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
WHERE r.data
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conindid = x.indexrelid AND c.conrelid = r.oid)
  AND NOT EXISTS (
    SELECT FROM plugin_webhooks.expected_shape AS e
    WHERE e.kind = 'index' AND e.relation = r.name AND e.name = i.relname)
UNION ALL
SELECT 'trigger', r.oid::regclass::text, pg_catalog.pg_get_triggerdef(t.oid) || ';'
FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
WHERE r.data AND NOT EXISTS (
    SELECT FROM plugin_webhooks.expected_shape AS e
    WHERE e.kind = 'trigger' AND e.relation = r.name AND e.name = t.tgname)
UNION ALL
SELECT 'policy', r.oid::regclass::text,
       pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s',
           p.policyname, r.oid::regclass, p.permissive, p.cmd,
           (SELECT pg_catalog.string_agg(
                       CASE x.name WHEN 'public' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(x.name) END, ', ')
            FROM pg_catalog.unnest(p.roles) AS x (name)))
       || coalesce(' USING (' || p.qual || ')', '') || coalesce(' WITH CHECK (' || p.with_check || ')', '') || ';'
FROM relation AS r
JOIN pg_catalog.pg_policies AS p ON p.schemaname = r.nspname AND p.tablename = r.relname
WHERE r.data AND p.policyname !~ ('^' || r.relname || '_select_(anon|authenticated|service_role)$')
UNION ALL
-- Of a former owner's own: CREATE EXTENSION at the restore writes those of the extension.
SELECT 'comment', p.object, p.statement || ';'
FROM plugin_webhooks.replaced AS p WHERE p.step = 11 AND p.statement NOT LIKE '% IS NULL'
UNION ALL
SELECT 'trust', 'host', pg_catalog.format('SELECT plugin_webhooks.attach_host(%L);',
           pg_catalog.array_agg(DISTINCT pg_catalog.pg_get_userbyid(x.owner)::text))
FROM plugin_webhooks.host_bindings AS b, pg_catalog.unnest(ARRAY[b.owner, b.schema_owner]) AS x (owner)
WHERE b.named HAVING pg_catalog.count(*) > 0;
COMMENT ON VIEW plugin_webhooks.not_in_dumps IS
    'What was added to the extension''s tables and pg_dump does not carry: owners, constraints, indexes, triggers, '
    'policies, comments, owners of host objects that are trusted by name, each as a statement to run after a restore.';
